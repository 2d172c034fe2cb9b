//! Resource limits of workers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ByteSize;

/// Smallest memory limit of a worker. A worker cannot start with less.
const MIN_MEMORY: ByteSize = ByteSize(32 << 20);

/// Smallest CPU limit of a worker, in thousandths of a core. The quota of a cgroup cannot be much smaller.
const MIN_CPU_MILLIS: u32 = 10;

/// Smallest limit on open files of a worker. A worker cannot start with fewer.
const MIN_OPEN_FILES: u32 = 64;

/// Resource limits of a worker. A limit that is left out does not apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    /// Memory limit, at least 32 MiB. A worker that needs more ends with exit class `oom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// CPU limit in thousandths of a core: 1500 is one core and a half.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10))]
    pub cpu_millis: Option<u32>,
    /// Maximum number of open files and sockets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 64))]
    pub open_files: Option<u32>,
}

impl Limits {
    /// True if there is no limit.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Fills each missing limit from `defaults`.
    pub fn or(self, defaults: Self) -> Self {
        Self {
            memory: self.memory.or(defaults.memory),
            cpu_millis: self.cpu_millis.or(defaults.cpu_millis),
            open_files: self.open_files.or(defaults.open_files),
        }
    }

    /// Checks that a worker can start within these limits.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.memory.is_some_and(|memory| memory < MIN_MEMORY) {
            return Err(format!("limits.memory is below {MIN_MEMORY}: no worker can start with less"));
        }
        if self.cpu_millis.is_some_and(|millis| millis < MIN_CPU_MILLIS) {
            return Err(format!(
                "limits.cpu_millis is below {MIN_CPU_MILLIS}: expected thousandths of a core, 1000 for one"
            ));
        }
        if self.open_files.is_some_and(|files| files < MIN_OPEN_FILES) {
            return Err(format!("limits.open_files is below {MIN_OPEN_FILES}: no worker can start with fewer"));
        }
        Ok(())
    }
}

/// Parses a number of cores, such as `1.5`, into thousandths of a core.
///
/// # Errors
/// The text is not a number of at least 0.01.
pub fn parse_cores(text: &str) -> Result<u32, String> {
    let millis = text.parse::<f64>().ok().map(|cores| (cores * 1000.0).round());
    match millis {
        // The cast is exact: the number is whole and in range.
        Some(millis) if (f64::from(MIN_CPU_MILLIS)..=f64::from(u32::MAX)).contains(&millis) => Ok(millis as u32),
        _ => Err(format!("`{text}` is not a number of cores: expected 0.01 or more, such as 1.5")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_a_decimal_number() {
        for (text, millis) in [("1", 1000), ("1.5", 1500), ("0.01", 10), ("64", 64_000), ("0.333", 333)] {
            assert_eq!(parse_cores(text), Ok(millis), "{text}");
        }
        for wrong in ["0", "0.001", "-1", "NaN", "inf", "1e99", "two", ""] {
            assert!(parse_cores(wrong).is_err_and(|error| error.contains("such as 1.5")), "{wrong}");
        }
    }
}
