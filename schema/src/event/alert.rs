//! Alerts for operators, on `rbee.evt.alert.<kind>.<event>`.
//!
//! The leading queen raises an alert when its condition begins to hold, and clears it when the condition no longer holds.
//! A newly elected leader raises the alerts that hold at that time again.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::names::event_names;

/// Kind of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AlertKind {
    /// A hive is lost.
    HiveLost,
    /// A hive reports that its workers exit too often.
    HiveDegraded,
    /// A hive has little free disk space.
    DiskLow,
    /// A worker is in a crash loop.
    CrashLoop,
    /// A model is in demand and no hive can run it.
    Unplaceable,
    /// A job was given up and stored in the stream `dead`. Never cleared.
    DeadLetter,
    /// Another queen became the leader. Never cleared.
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

    /// Token of this kind in subjects and documents.
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
            .ok_or_else(|| format!("`{text}` is not a kind of alert: expected one of {}", known()))
    }
}

/// Event of an alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum AlertEvent {
    /// The condition holds.
    Raised {
        /// Object of the alert: a hive, `hive/worker`, a model, or a queen.
        about: String,
        /// Description of the problem, in plain text.
        message: String,
        /// Recommended action, in plain text.
        remedy: String,
    },
    /// The condition no longer holds.
    Cleared {
        /// Object of the alert, as in `raised`.
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
    fn an_alert_kind_is_parsed_from_its_token() {
        for kind in AlertKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).expect("serializes"), kind.as_str());
        }
        assert!("noise".parse::<AlertKind>().is_err_and(|error| error.contains("hive-lost")));
    }
}
