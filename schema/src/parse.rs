//! Text forms of the types that command-line options hold.

use std::str::FromStr;

use crate::{Device, ModelReference, Replicas};

impl FromStr for Replicas {
    type Err = String;

    /// Reads `2` or `0..3`.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<u32>().ok();
        let (min, max) = match text.split_once("..") {
            Some((min, max)) => (number(min), number(max)),
            None => (number(text), number(text)),
        };
        match (min, max) {
            (Some(min), Some(max)) if max >= 1 && min <= max => Ok(Self { min, max }),
            _ => {
                Err(format!("`{text}` is no number of workers: expected MIN..MAX with MAX of at least 1, such as 0..2"))
            }
        }
    }
}

impl FromStr for Device {
    type Err = String;

    /// Reads `cpu`, `cuda` or `metal`.
    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|device| device.as_str() == text);
        known.ok_or_else(|| format!("`{text}` is no device: expected cpu, cuda or metal"))
    }
}

impl Device {
    /// Every device.
    pub const ALL: [Self; 3] = [Self::Cpu, Self::Cuda, Self::Metal];
}

/// Reads a label, such as `zone=attic`.
///
/// # Errors
/// The text has no `=`.
pub fn parse_label(text: &str) -> Result<(String, String), String> {
    let (name, value) =
        text.split_once('=').ok_or_else(|| format!("`{text}` is no label: expected NAME=VALUE, such as zone=attic"))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// Reads a number of cores, such as `1.5`, as thousandths of a core.
///
/// # Errors
/// The text is no number of at least 0.01.
pub fn parse_cores(text: &str) -> Result<u32, String> {
    let millis = text.parse::<f64>().ok().map(|cores| (cores * 1000.0).round());
    match millis {
        // The cast is exact: the number is whole and in range.
        Some(millis) if (10.0..=f64::from(u32::MAX)).contains(&millis) => Ok(millis as u32),
        _ => Err(format!("`{text}` is no number of cores: expected 0.01 or more, such as 1.5")),
    }
}

/// Reads a reference to a model file on the hub.
///
/// # Errors
/// The text is no reference, or one to a file of a machine.
pub fn parse_hub_reference(text: &str) -> Result<ModelReference, String> {
    match text.parse() {
        Ok(reference @ ModelReference::Hub(_)) => Ok(reference),
        Ok(ModelReference::File(_) | ModelReference::Mock(_)) => {
            Err(format!("`{text}` is not on the hub: expected hf:owner/repo[@revision][/file.gguf]"))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_a_range_or_one_number() {
        assert_eq!("0..2".parse(), Ok(Replicas { min: 0, max: 2 }));
        assert_eq!("3".parse(), Ok(Replicas { min: 3, max: 3 }));
        for wrong in ["0", "2..1", "..", "x", "-1"] {
            let error = wrong.parse::<Replicas>().expect_err(wrong);
            assert!(error.contains("expected MIN..MAX"), "{error}");
        }
    }

    #[test]
    fn every_device_is_read_from_its_name() {
        for device in Device::ALL {
            assert_eq!(device.as_str().parse(), Ok(device));
        }
        assert!("gpu".parse::<Device>().is_err_and(|error| error.contains("cpu, cuda or metal")));
    }

    #[test]
    fn a_label_is_a_name_and_a_value() {
        assert_eq!(parse_label("zone = attic"), Ok(("zone".to_owned(), "attic".to_owned())));
        assert!(parse_label("zone").is_err_and(|error| error.contains("such as zone=attic")));
    }

    #[test]
    fn cores_are_a_decimal_number() {
        for (text, millis) in [("1", 1000), ("1.5", 1500), ("0.01", 10), ("64", 64_000), ("0.333", 333)] {
            assert_eq!(parse_cores(text), Ok(millis), "{text}");
        }
        for wrong in ["0", "0.001", "-1", "NaN", "inf", "1e99", "two", ""] {
            assert!(parse_cores(wrong).is_err_and(|error| error.contains("such as 1.5")), "{wrong}");
        }
    }

    #[test]
    fn a_hub_reference_names_a_repository_of_the_hub() {
        assert!(parse_hub_reference("hf:o/r/m.gguf").is_ok());
        for wrong in ["file:/m.gguf", "mock:", "o/r", "hf:o"] {
            let error = parse_hub_reference(wrong).expect_err(wrong);
            assert!(error.contains("hf:owner/repo"), "{error}");
        }
    }
}
