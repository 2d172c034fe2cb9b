//! The compute device of a worker.

use std::{fmt, str::FromStr};

use rbee_schema::{Device, Failure, FailureCode};

/// A compute device of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ComputeDevice {
    kind: Device,
    /// Index of the GPU.
    index: u32,
}

impl ComputeDevice {
    /// Checks that this program can compute on the device.
    ///
    /// # Errors
    /// `device-missing` if it was built without support for the device.
    pub(crate) fn check(self) -> Result<(), Failure> {
        let feature = match self.kind {
            Device::Cpu => return Ok(()),
            Device::Cuda | Device::Metal => self.kind.as_str(),
        };
        Err(Failure::new(
            FailureCode::DeviceMissing,
            format!(
                "the model requires {self}, but this worker program was built without the feature `{feature}` and computes on \
                 the CPU only. Use --device cpu (or leave out the model's device), or start the hive with a worker program that \
                 has the feature (--worker-program) and declare it with --worker-devices"
            ),
        ))
    }
}

impl FromStr for ComputeDevice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, index) = match text.split_once(':') {
            Some((kind, index)) => (kind, Some(index)),
            None => (text, None),
        };
        match (kind, index.map_or(Ok(0), str::parse)) {
            ("cpu", Ok(index)) if text == "cpu" => Ok(Self { kind: Device::Cpu, index }),
            ("metal", Ok(index)) if text == "metal" => Ok(Self { kind: Device::Metal, index }),
            ("cuda", Ok(index)) => Ok(Self { kind: Device::Cuda, index }),
            _ => Err(format!("`{text}` is not a device: expected cpu, cuda:N with the index of a GPU, or metal")),
        }
    }
}

impl fmt::Display for ComputeDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Device::Cuda => write!(f, "cuda:{}", self.index),
            Device::Cpu | Device::Metal => f.write_str(self.kind.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_parsed_and_others_refused() {
        for (text, written) in [("cpu", "cpu"), ("cuda", "cuda:0"), ("cuda:3", "cuda:3"), ("metal", "metal")] {
            assert_eq!(text.parse::<ComputeDevice>().map(|device| device.to_string()), Ok(written.to_owned()));
        }
        for wrong in ["", "gpu", "cuda:", "cuda:-1", "cuda:first", "cpu:0", "metal:1", "CPU"] {
            let error = wrong.parse::<ComputeDevice>().expect_err(wrong);
            assert!(error.contains("expected cpu, cuda:N"), "{error}");
        }
    }

    #[test]
    fn missing_device_is_refused_with_a_remedy() {
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
