//! Disturbances: a rule about speed or about healthy processes is checked only while nothing disturbs.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Times of disturbances: of everything, and of single processes.
#[derive(Debug, Default)]
pub(super) struct Disturbances {
    everything: Option<Instant>,
    processes: BTreeMap<u64, Instant>,
}

impl Disturbances {
    /// Everything is disturbed until `until`.
    pub(super) fn everything(&mut self, until: Instant) {
        self.everything = Some(self.everything.map_or(until, |known| known.max(until)));
    }

    /// A process is disturbed until `until`.
    pub(super) fn process(&mut self, process: u64, until: Instant) {
        let known = self.processes.entry(process).or_insert(until);
        *known = (*known).max(until);
    }

    /// True if neither everything nor this process was disturbed for at least `quiet`.
    pub(super) fn is_calm(&self, process: u64, quiet: Duration, now: Instant) -> bool {
        let is_over = |until: &Instant| now >= *until + quiet;
        self.everything.as_ref().is_none_or(is_over) && self.processes.get(&process).is_none_or(is_over)
    }
}
