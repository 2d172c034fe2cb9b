//! Weights of tenants.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Weight of a tenant: its share of the tokens, relative to the weights of the others that have waiting jobs. A number from
/// 0.001 to 1000, exact to a thousandth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantWeight {
    thousandths: u32,
}

/// Largest weight, in thousandths.
const LARGEST: u32 = 1_000_000;

impl TenantWeight {
    /// Weight in thousandths, at least 1.
    pub fn thousandths(self) -> u32 {
        self.thousandths
    }

    fn from_number(number: f64) -> Result<Self, String> {
        let thousandths = (number * 1000.0).round();
        if (1.0..=f64::from(LARGEST)).contains(&thousandths) {
            // The cast is exact: the number is whole and in range.
            return Ok(Self { thousandths: thousandths as u32 });
        }
        Err(format!("weight is {number}: expected a number from 0.001 to 1000, such as 2"))
    }

    fn number(self) -> f64 {
        f64::from(self.thousandths) / 1000.0
    }
}

impl Default for TenantWeight {
    fn default() -> Self {
        Self { thousandths: 1000 }
    }
}

impl FromStr for TenantWeight {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.parse::<f64>();
        number
            .map_err(|_| format!("`{text}` is not a weight: expected a number from 0.001 to 1000, such as 2"))
            .and_then(Self::from_number)
    }
}

impl fmt::Display for TenantWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.number().to_string())
    }
}

impl Serialize for TenantWeight {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.thousandths % 1000 {
            0 => serializer.serialize_u32(self.thousandths / 1000),
            _ => serializer.serialize_f64(self.number()),
        }
    }
}

impl<'de> Deserialize<'de> for TenantWeight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_number(f64::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl JsonSchema for TenantWeight {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "TenantWeight".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": 0.001, "maximum": 1000 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_is_a_number_and_written_as_it_was_read() {
        for (text, thousandths) in [("1", 1000), ("3", 3000), ("0.5", 500), ("0.001", 1), ("1000", 1_000_000)] {
            let weight: TenantWeight = serde_json::from_str(text).expect(text);
            assert_eq!((weight.thousandths(), text.parse()), (thousandths, Ok(weight)));
            assert_eq!((serde_json::to_string(&weight).expect("JSON"), weight.to_string()), (text.into(), text.into()));
        }
        for wrong in ["0", "-1", "0.0001", "1001", "1e99"] {
            let error = serde_json::from_str::<TenantWeight>(wrong).expect_err(wrong).to_string();
            assert!(error.contains("from 0.001 to 1000"), "{error}");
            assert!(wrong.parse::<TenantWeight>().is_err(), "{wrong}");
        }
        for wrong in ["", "much", "NaN", "inf"] {
            assert!(wrong.parse::<TenantWeight>().is_err_and(|error| error.contains("such as 2")), "{wrong}");
        }
    }
}
