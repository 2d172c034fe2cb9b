//! Record of a tenant, as an operator writes it, and the record that its jobs wait.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::TenantWeight;
use crate::{Failure, FailureCode};

/// Largest limits of running jobs. No fleet runs more jobs of one model at once.
const MOST_RUNNING: u32 = 65_536;

/// Weight and limits of a tenant. What is left out is not limited. The record of the tenant `default` applies to every tenant
/// without one, to each by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct TenantSpec {
    /// Share of the tokens while several tenants have waiting jobs; default 1. A tenant of weight 3 is served three times as
    /// many tokens as one of weight 1.
    #[serde(default, skip_serializing_if = "is_default")]
    pub weight: TenantWeight,
    /// Maximum number of jobs that run at once, for each model and class. Further jobs wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_536))]
    pub max_running: Option<u32>,
    /// Maximum number of waiting jobs, over all models. Further jobs are refused with `queue-full`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_queued: Option<u32>,
    /// Maximum number of tokens per minute, of prompts and answers, over all models. A tenant that has used as many starts no
    /// further jobs until the last minute holds fewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub tokens_per_minute: Option<u64>,
}

fn is_default(weight: &TenantWeight) -> bool {
    *weight == TenantWeight::default()
}

impl TenantSpec {
    /// Checks what the types cannot express.
    ///
    /// # Errors
    /// `invalid-request`, with the field, the value found and the values allowed.
    pub fn check(&self) -> Result<(), Failure> {
        let invalid = |message: String| Err(Failure::new(FailureCode::InvalidRequest, message));
        if self.max_running.is_some_and(|limit| !(1..=MOST_RUNNING).contains(&limit)) {
            let found = self.max_running.unwrap_or_default();
            return invalid(format!(
                "max_running is {found}: expected 1 to {MOST_RUNNING}, or leave it out for no limit"
            ));
        }
        let is_zero =
            [("max_queued", self.max_queued == Some(0)), ("tokens_per_minute", self.tokens_per_minute == Some(0))];
        match is_zero.into_iter().find(|(_, is_zero)| *is_zero) {
            Some((field, _)) => invalid(format!("{field} is 0: expected at least 1, or leave it out for no limit")),
            None => Ok(()),
        }
    }
}

/// Record that a tenant has used its tokens per minute: workers start no further jobs of it. The leading queen deletes it as
/// soon as jobs may run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TenantThrottle {
    /// Time in milliseconds, from when the record was stored, after which jobs may run again even if the record stays.
    pub for_ms: u64,
    /// Tokens that jobs of the tenant have used within the last minute.
    pub tokens: u64,
    /// Limit of tokens per minute.
    pub tokens_per_minute: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_a_tenant_is_optional() {
        assert_eq!(serde_json::from_str::<TenantSpec>("{}").expect("valid"), TenantSpec::default());
        let text = r#"{"weight":2,"max_running":4,"max_queued":100,"tokens_per_minute":60000}"#;
        let spec: TenantSpec = serde_json::from_str(text).expect("valid");
        assert_eq!(spec.check(), Ok(()));
        assert_eq!(serde_json::to_string(&spec).expect("JSON"), text);
        assert_eq!(serde_json::to_string(&TenantSpec::default()).expect("JSON"), "{}");
    }

    #[test]
    fn an_invalid_limit_is_refused_by_field() {
        for (body, words) in [
            (r#"{"max_running":0}"#, "max_running is 0: expected 1 to 65536"),
            (r#"{"max_running":70000}"#, "max_running is 70000"),
            (r#"{"max_queued":0}"#, "max_queued is 0: expected at least 1"),
            (r#"{"tokens_per_minute":0}"#, "tokens_per_minute is 0"),
        ] {
            let failure = serde_json::from_str::<TenantSpec>(body).expect(body).check().expect_err(body);
            assert!(failure.message.contains(words), "{failure}");
        }
        for wrong in [r#"{"weight":0}"#, r#"{"weight":"2"}"#, r#"{"max_running":-1}"#, r#"{"max_queued":1.5}"#, "2"] {
            assert!(serde_json::from_str::<TenantSpec>(wrong).is_err(), "{wrong}");
        }
    }
}
