//! What a hive bears, and when it is enough.

use rbee_schema::ByteSize;

rbee_schema::settings! {
    /// The bounds of a hive.
    Bounds, each "bound" {
        /// So many exits without a stable run between them, within `loop_window`, are a crash loop.
        loop_exits: u32 = 5,
        /// So many ends for want of memory under one limit are one too: the next would end the same way.
        loop_ooms: u32 = 2,
        /// Failed health checks in a row that end a worker.
        health_failures: u32 = 3,
        /// So many workers in a crash loop are trouble of the hive as a whole.
        degraded_loops: u32 = 3,
        /// As are so many unwanted exits within `degraded_window`.
        degraded_exits: u32 = 10,
        /// A log that is larger is set aside; one that was set aside is kept.
        log_size: ByteSize = ByteSize(8 << 20),
        /// How many of the last lines of a worker that ended are told.
        tail_lines: u32 = 20,
        /// And from how much of the end of its log they are read. It is part of an event, which may have a megabyte.
        tail_size: ByteSize = ByteSize(8 << 10),
        /// How many tries in a row of the hub may bring nothing.
        hub_tries: u32 = 8,
        /// The largest description of a repository of the hub that is read.
        hub_listing: ByteSize = ByteSize(32 << 20),
    }
}

/// More of a log's end makes an event that the server does not take: what is no text grows threefold, and quotes twofold.
const LARGEST_TAIL: ByteSize = ByteSize(128 << 10);

impl Bounds {
    /// # Errors
    /// What is too much.
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
    fn a_tail_that_no_event_could_hold_is_refused() {
        assert!("tail_size=128KiB".parse::<Bounds>().is_ok());
        let error = "tail_size=1MiB".parse::<Bounds>().expect_err("too much");
        assert!(error.contains("expected at most 128 KiB"), "{error}");
    }
}
