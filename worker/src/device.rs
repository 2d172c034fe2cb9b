//! What a worker computes on.

use std::{fmt, str::FromStr};

use rbee_schema::{Device, Failure, FailureCode};

/// A device of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ComputeDevice {
    kind: Device,
    /// Which of several cards.
    card: u32,
}

impl ComputeDevice {
    /// Whether this program can compute on it.
    ///
    /// # Errors
    /// `device-missing`: it was built without.
    pub(crate) fn check(self) -> Result<(), Failure> {
        let feature = match self.kind {
            Device::Cpu => return Ok(()),
            Device::Cuda | Device::Metal => self.kind.as_str(),
        };
        Err(Failure::new(
            FailureCode::DeviceMissing,
            format!(
                "a model is to run on {self} and this worker program computes on the processor alone: it was built without a \
                 feature `{feature}`. Use --device cpu (or leave out the model's device), or let the hive start a program that \
                 has it with --worker-program, and say so with --worker-devices"
            ),
        ))
    }
}

impl FromStr for ComputeDevice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, card) = match text.split_once(':') {
            Some((kind, card)) => (kind, Some(card)),
            None => (text, None),
        };
        match (kind, card.map_or(Ok(0), str::parse)) {
            ("cpu", Ok(card)) if text == "cpu" => Ok(Self { kind: Device::Cpu, card }),
            ("metal", Ok(card)) if text == "metal" => Ok(Self { kind: Device::Metal, card }),
            ("cuda", Ok(card)) => Ok(Self { kind: Device::Cuda, card }),
            _ => Err(format!("`{text}` is no device: expected cpu, cuda:N with the number of a card, or metal")),
        }
    }
}

impl fmt::Display for ComputeDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Device::Cuda => write!(f, "cuda:{}", self.card),
            Device::Cpu | Device::Metal => f.write_str(self.kind.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_read_and_what_is_none_is_refused_with_what_is_possible() {
        for (text, written) in [("cpu", "cpu"), ("cuda", "cuda:0"), ("cuda:3", "cuda:3"), ("metal", "metal")] {
            assert_eq!(text.parse::<ComputeDevice>().map(|device| device.to_string()), Ok(written.to_owned()));
        }
        for wrong in ["", "gpu", "cuda:", "cuda:-1", "cuda:first", "cpu:0", "metal:1", "CPU"] {
            let error = wrong.parse::<ComputeDevice>().expect_err(wrong);
            assert!(error.contains("expected cpu, cuda:N"), "{error}");
        }
    }

    #[test]
    fn what_this_program_was_built_without_is_refused_with_what_to_do() {
        let check = |text: &str| text.parse::<ComputeDevice>().expect("a device").check();
        assert_eq!(check("cpu"), Ok(()));
        for (text, feature) in [("cuda:1", "`cuda`"), ("metal", "`metal`")] {
            let failure = check(text).expect_err(text);
            assert_eq!(failure.code, FailureCode::DeviceMissing);
            for words in [text, feature, "--device cpu", "--worker-devices"] {
                assert!(failure.message.contains(words), "{failure}");
            }
        }
    }
}
