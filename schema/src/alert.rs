//! Alerts, on `rbee.evt.alert.<kind>.<event>`: what an operator should look at.
//!
//! The queen who leads raises an alert when it begins to hold and clears it when it holds no longer. A queen who begins to lead
//! raises again what holds then.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::event_names;

/// What an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AlertKind {
    /// A hive is gone.
    HiveLost,
    /// A hive says that its workers end too often.
    HiveDegraded,
    /// A hive has little room on its disk.
    DiskLow,
    /// A worker ends again and again.
    CrashLoop,
    /// A model is in demand and no hive can run it.
    Unplaceable,
    /// A job was given up and kept. Never cleared.
    DeadLetter,
    /// Another queen leads. Never cleared.
    LeaderChanged,
}

impl AlertKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::HiveLost,
        Self::HiveDegraded,
        Self::DiskLow,
        Self::CrashLoop,
        Self::Unplaceable,
        Self::DeadLetter,
        Self::LeaderChanged,
    ];

    /// Its token in the subject.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HiveLost => "hive-lost",
            Self::HiveDegraded => "hive-degraded",
            Self::DiskLow => "disk-low",
            Self::CrashLoop => "crash-loop",
            Self::Unplaceable => "unplaceable",
            Self::DeadLetter => "dead-letter",
            Self::LeaderChanged => "leader-changed",
        }
    }
}

impl fmt::Display for AlertKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for AlertKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::as_str).join(", ");
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| format!("`{text}` is no kind of alert: expected one of {}", known()))
    }
}

/// What became of an alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum AlertEvent {
    /// It holds.
    Raised {
        /// Whom it is about: a hive, `hive/worker`, a model, or a queen.
        about: String,
        /// What is so, in words.
        message: String,
        /// What to do, in words.
        remedy: String,
    },
    /// It holds no longer.
    Cleared {
        /// Whom it was about.
        about: String,
    },
}

event_names!(AlertEvent {
    Raised => "raised",
    Cleared => "cleared",
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_read_as_it_is_written() {
        for kind in AlertKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).expect("serializes"), kind.as_str());
        }
        assert!("noise".parse::<AlertKind>().is_err_and(|error| error.contains("hive-lost")));
    }
}
