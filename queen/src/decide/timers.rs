//! How long a queen waits for what. Every wait of her decisions stands here with its reason.

use std::time::Duration;

use rbee_schema::{check_at_least, check_longer, check_whole_seconds};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

rbee_schema::settings! {
    /// The timers of a queen.
    Timers, each "timer" {
        /// A hive beats every second: without a word for this long it is suspect and gets no further workers. A hive whose own
        /// `beat` is not shorter refuses to follow her.
        suspect: Duration = 3 * SECOND,
        /// Without a word for this long a hive is lost: others replace its workers. A server that was restarted is there
        /// again within a second, and a partition heals within six.
        lost: Duration = 10 * SECOND,
        /// A hive that is lost for this long is not expected any more: as long as its workers serve on without it.
        removed: Duration = 10 * MINUTE,
        /// A commanded spawn or stop of which nothing was heard for this long is commanded again: the hive never got it.
        order: Duration = 30 * SECOND,
        /// A start that failed for a reason that may pass is tried again on the same hive after this long.
        retry: Duration = 5 * SECOND,
        /// A worker that has served for less than this is not swapped out for another model: models would take turns in
        /// loading and answer nothing.
        residency: Duration = 20 * SECOND,
        /// Jobs that are expected to wait for less than this are no reason for another worker.
        wait: Duration = SECOND,
        /// How long a worker of which none has been seen to start is expected to take.
        start: Duration = 2 * SECOND,
        /// The queue is counted at most this often while jobs wait.
        count: Duration = SECOND / 2,
        /// Who leads and does not renew her lease for this long leads no longer.
        lease: Duration = 5 * SECOND,
        /// How often she renews it: two renewals may be lost.
        lease_renewal: Duration = SECOND * 3 / 2,
        /// How long a leading queen whose connection is gone has to come back before another one takes over. A lost
        /// connection is made anew within a tenth of that.
        takeover: Duration = SECOND / 4,
        /// How long the leading queen may take to answer another one who begins.
        answer: Duration = SECOND / 4,
        /// Events are sealed this long after the first of them, so that a seal stands for many.
        seal: Duration = SECOND,
        /// How long a job over HTTP or by request may be silent: a large model is loaded in minutes, and a queue may be
        /// long.
        patience: Duration = 10 * MINUTE,
        /// A silent stream over HTTP says that it lives this often, so that nobody between us and the client closes it.
        keep_alive: Duration = 15 * SECOND,
        /// How long her last events may take to be stored when she ends.
        final_flush: Duration = 5 * SECOND,
    }
}

impl Timers {
    /// # Errors
    /// What does not fit together.
    pub fn check(&self) -> Result<(), String> {
        check_at_least(("lost", self.lost), ("suspect", self.suspect))?;
        check_at_least(("removed", self.removed), ("lost", self.lost))?;
        check_whole_seconds("lease", self.lease)?;
        check_longer(("lease", self.lease), ("lease_renewal", self.lease_renewal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_that_do_not_fit_each_other_are_refused() {
        for (wrong, words) in [
            ("suspect=20s", "`lost=10s`: expected at least as long as suspect, which is 20s"),
            ("lost=11m", "`removed=10m`: expected at least as long as lost, which is 11m"),
            ("lease=1500ms", "expected whole seconds"),
            ("lease=1s", "`lease=1s`: expected longer than lease_renewal, which is 1s 500ms"),
        ] {
            let error = wrong.parse::<Timers>().expect_err(wrong);
            assert!(error.contains(words), "{error}");
        }
        assert!("suspect=20s,lost=20s,lease=9s,lease_renewal=3s".parse::<Timers>().is_ok());
    }
}
