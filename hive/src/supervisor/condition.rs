//! The hive's verdict about itself: degraded or not.

use std::time::Instant;

use rbee_schema::LeaderRecord;

use crate::decide::{agreement::disagreement, rules::Rules, strain::Strain};

/// Reasons for which load is better placed on other hives.
#[derive(Default)]
pub(super) struct Condition {
    pub(super) strain: Strain,
    /// Mismatch between this hive's timers and those of the leading queen.
    disagreement: Option<String>,
    /// Published reason, while the hive is degraded.
    degraded: Option<String>,
}

/// A change of the verdict.
pub(super) enum Change {
    Degraded(String),
    Recovered,
}

impl Condition {
    /// The published reason, while the hive is degraded.
    pub(super) fn degraded(&self) -> Option<&str> {
        self.degraded.as_deref()
    }

    /// Compares the hive's timers with those of the leading queen; `true` where the outcome differs from the last one.
    pub(super) fn compare_with(&mut self, leader: &LeaderRecord, rules: &Rules) -> bool {
        let disagreement = disagreement(rules.timers.beat, leader);
        let is_new = self.disagreement != disagreement;
        self.disagreement = disagreement;
        is_new
    }

    /// Updates the verdict; `crash_looping` workers are in a crash loop.
    pub(super) fn update(&mut self, crash_looping: usize, now: Instant, rules: &Rules) -> Option<Change> {
        let strained = self.strain.verdict(crash_looping, now, rules);
        let verdict = strained.or_else(|| self.disagreement.clone());
        if verdict.is_some() == self.degraded.is_some() {
            return None;
        }
        self.degraded.clone_from(&verdict);
        Some(verdict.map_or(Change::Recovered, Change::Degraded))
    }
}
