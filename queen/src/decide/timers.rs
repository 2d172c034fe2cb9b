//! Timeouts and intervals of the queen, each with its reason.

use std::time::Duration;

use rbee_schema::{check_at_least, check_longer, check_whole_seconds};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Longest window for the tokens of a tenant. Workers hold a tenant for no longer, whatever a record says.
const LONGEST_WINDOW: Duration = Duration::from_secs(60 * 60);

rbee_schema::settings! {
    /// Timeouts and intervals of the queen.
    Timers, each "timer" {
        /// A hive without a heartbeat for this long is suspect and gets no further workers. Hives send a heartbeat every
        /// second, so two may be lost. A hive whose own `beat` is not shorter refuses to start.
        suspect: Duration = 3 * SECOND,
        /// A hive without a heartbeat for this long is lost: other hives replace its workers. A restarted server is reachable
        /// again within 1 s, and a network partition heals within 6 s.
        lost: Duration = 10 * SECOND,
        /// A hive that has been lost for this long is removed with its workers. Workers keep serving without their hive for
        /// that long.
        removed: Duration = 10 * MINUTE,
        /// A spawn or stop that no hive has reported for this long is commanded again: the hive never received it.
        order: Duration = 30 * SECOND,
        /// Pause before a start that failed for a temporary reason is tried again on the same hive.
        retry: Duration = 5 * SECOND,
        /// Shortest time that a worker serves before it can be preempted for another model. Without it, models would take
        /// turns in loading and answer nothing.
        residency: Duration = 20 * SECOND,
        /// Jobs with a shorter expected wait start no further worker.
        wait: Duration = SECOND,
        /// Longest wait of an interactive job for the first worker of its model. Then the job is refused with the reason, unless
        /// a worker is loading for the first time. Most people wait no longer without a word.
        unserved: Duration = MINUTE,
        /// Expected start time of a worker before one of the model was seen to start.
        start: Duration = 2 * SECOND,
        /// Shortest interval between two counts of the queue while jobs wait.
        count: Duration = SECOND / 2,
        /// Time to live of the leader lease: a leader that does not renew it for this long stops leading.
        lease: Duration = 5 * SECOND,
        /// Interval at which the leader renews its lease. Two renewals may be lost.
        lease_renewal: Duration = SECOND * 3 / 2,
        /// Time that a leader has to reconnect before another queen takes over. A lost connection is made again within a
        /// tenth of that.
        takeover: Duration = SECOND / 4,
        /// Time that the leader has to answer a queen that starts.
        answer: Duration = SECOND / 4,
        /// Time over which the tokens of a tenant are added up for its `tokens_per_minute`, which applies to it in proportion. A
        /// minute, so that a tenant may use its tokens in bursts.
        token_window: Duration = MINUTE,
        /// Delay from an event to its seal, so that one seal covers many events.
        seal: Duration = SECOND,
        /// A client over HTTP, or of `rbee.api`, gets an error when its job has no output for this long. A large model loads for
        /// minutes, and a queue may be long.
        patience: Duration = 10 * MINUTE,
        /// Time that an HTTP client has to send a body that is larger than 512 KiB. Others wait for it, because few are read at a
        /// time.
        upload: Duration = 2 * MINUTE,
        /// Interval of searches for stored bodies that belong to no job.
        body_sweep: Duration = 5 * MINUTE,
        /// Age from which on a stored body that belongs to no job is deleted. A client submits its job at once after it has stored
        /// the body.
        orphan: Duration = 60 * MINUTE,
        /// Age at which a batch that has ended is deleted, with its requests and answers.
        batch_age: Duration = 7 * 24 * 60 * MINUTE,
        /// Interval of keep-alive comments in an HTTP stream without output, so that no proxy closes it.
        keep_alive: Duration = 15 * SECOND,
        /// Time that answers in progress have to end when the queen stops. Most answers are complete within it; the others end
        /// with the failure `shutting-down`. Until then the queen plans on, because an answer may wait for its model.
        shutdown: Duration = 30 * SECOND,
        /// Time that the queen's last events have to be stored when it stops.
        final_flush: Duration = 5 * SECOND,
    }
}

impl Timers {
    /// Checks the timers together.
    ///
    /// # Errors
    /// The timers that contradict each other.
    pub fn check(&self) -> Result<(), String> {
        check_at_least(("lost", self.lost), ("suspect", self.suspect))?;
        check_at_least(("removed", self.removed), ("lost", self.lost))?;
        if self.token_window > LONGEST_WINDOW {
            return Err("`token_window` is too long: expected at most 1h".to_owned());
        }
        check_whole_seconds("lease", self.lease)?;
        check_longer(("lease", self.lease), ("lease_renewal", self.lease_renewal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictory_timers_are_refused() {
        for (wrong, words) in [
            ("suspect=20s", "`lost=10s`: expected at least as long as suspect, which is 20s"),
            ("lost=11m", "`removed=10m`: expected at least as long as lost, which is 11m"),
            ("token_window=2h", "expected at most 1h"),
            ("lease=1500ms", "expected whole seconds"),
            ("lease=1s", "`lease=1s`: expected longer than lease_renewal, which is 1s 500ms"),
        ] {
            let error = wrong.parse::<Timers>().expect_err(wrong);
            assert!(error.contains(words), "{error}");
        }
        assert!("suspect=20s,lost=20s,lease=9s,lease_renewal=3s".parse::<Timers>().is_ok());
    }
}
