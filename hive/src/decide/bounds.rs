//! Limits of a hive: counts and sizes above which it acts.

use rbee_schema::ByteSize;

rbee_schema::settings! {
    /// Bounds of a hive.
    Bounds, each "bound" {
        /// Number of exits within `loop_window`, without a stable run between them, that are a crash loop.
        loop_exits: u32 = 5,
        /// Number of exits in a row that do not count for a crash loop because a single job is to blame for each. Two jobs that
        /// end two workers each, so that one bad job after another does not take the model down. A worker that no job
        /// survives becomes a crash loop after that.
        loop_excused: u32 = 4,
        /// Number of out-of-memory exits in a row that are a crash loop: under the same limit the next run would end alike.
        loop_ooms: u32 = 2,
        /// Number of failed health checks in a row after which a worker is killed.
        health_failures: u32 = 3,
        /// Number of workers in a crash loop that make the hive degraded.
        degraded_loops: u32 = 3,
        /// Number of unexpected exits within `degraded_window` that make the hive degraded.
        degraded_exits: u32 = 10,
        /// Size above which a log is rotated. One rotated log is kept.
        log_size: ByteSize = ByteSize(8 << 20),
        /// Number of last lines of a worker's output in its exit event.
        tail_lines: u32 = 20,
        /// Size of the end of the log from which these lines are read. They are part of an event, which may be 1 MB large.
        tail_size: ByteSize = ByteSize(8 << 10),
        /// Number of requests to the hub in a row that may fail before a fetch is given up.
        hub_tries: u32 = 8,
        /// Largest description of a repository that is read from the hub.
        hub_listing: ByteSize = ByteSize(32 << 20),
    }
}

/// Largest `tail_size`. More makes an event that the server refuses: bytes that are no text grow threefold in JSON, quotes
/// twofold.
const LARGEST_TAIL: ByteSize = ByteSize(128 << 10);

impl Bounds {
    /// Checks that events stay small enough for the server.
    ///
    /// # Errors
    /// The bound that is too large, and the largest possible value.
    pub fn check(&self) -> Result<(), String> {
        if self.tail_size > LARGEST_TAIL {
            return Err(format!("bound `tail_size={}`: expected at most {LARGEST_TAIL}", self.tail_size));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tail_that_is_too_large_for_an_event_is_refused() {
        assert!("tail_size=128KiB".parse::<Bounds>().is_ok());
        let error = "tail_size=1MiB".parse::<Bounds>().expect_err("too much");
        assert!(error.contains("expected at most 128 KiB"), "{error}");
    }
}
