//! The queen's own clock: deadlines that pass, and times in which the queen could not receive anything.

use std::time::{Duration, Instant};

use rbee_nats::Registry;
use tracing::warn;

use super::Controller;
use crate::decide::fleet::WorkerKey;

/// Delay of a deadline from which on the queen itself stood still, such as in a suspended machine: heartbeats that did not
/// arrive in that time mean nothing. Far longer than a busy queen takes, and shorter than the timeout of any heartbeat.
const STOOD_STILL: Duration = Duration::from_secs(1);

impl Controller {
    /// A deadline has passed.
    pub(super) fn handle_clock(&mut self, deadline: Option<Instant>) {
        let now = Instant::now();
        if deadline.is_some_and(|deadline| now > deadline + STOOD_STILL) {
            self.restart_timeouts("this queen stood still");
        }
        let effects = self.fleet.advance(now);
        self.fleet.mark_everything();
        self.apply(effects);
    }

    /// Restarts all heartbeat timeouts, because nothing could be received for a while.
    pub(super) fn restart_timeouts(&mut self, why: &str) {
        warn!(why, "nothing was received for a while; the heartbeat timeouts of all hives start again");
        self.fleet.restart_timeouts(Instant::now());
        self.listening_since = Instant::now();
        self.watch_deadlines();
        self.count_queue();
    }

    /// Deletes the record of a worker whose hive was removed, if this queen leads.
    pub(super) fn delete_record(&self, (hive, worker): &WorkerKey) {
        if self.leads() {
            Registry::workers(&self.bus).remove_ordered(&self.outbox, &format!("{hive}.{worker}"));
        }
    }
}
