//! Number of workers of a model.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Minimum and maximum number of workers of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Replicas {
    /// Minimum number of workers, which run even without demand; default 0.
    #[serde(default)]
    pub min: u32,
    /// Maximum number of workers; default 1.
    #[serde(default = "default_max")]
    pub max: u32,
}

fn default_max() -> u32 {
    1
}

impl Default for Replicas {
    fn default() -> Self {
        Self { min: 0, max: default_max() }
    }
}

impl FromStr for Replicas {
    type Err = String;

    /// Parses a range such as `0..3`, or a single number such as `2` for both ends.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<u32>().ok();
        let (min, max) = match text.split_once("..") {
            Some((min, max)) => (number(min), number(max)),
            None => (number(text), number(text)),
        };
        match (min, max) {
            (Some(min), Some(max)) if max >= 1 && min <= max => Ok(Self { min, max }),
            _ => Err(format!(
                "`{text}` is not a number of workers: expected MIN..MAX with MAX of at least 1, such as 0..2"
            )),
        }
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
}
