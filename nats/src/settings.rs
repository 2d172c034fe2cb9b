//! Settings of the connection to the bus, and limits of the streams.

use std::time::Duration;

use rbee_schema::{ByteSize, ClassLimits, TimeLimits, check_at_least, check_whole_seconds};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Size below which a stream is not reduced, in bytes: one of the largest messages.
const SMALLEST: u64 = 1 << 20;

/// Shortest redelivery timeout: workers send several keep-alives within it.
const SHORTEST_REDELIVERY: Duration = SECOND;

rbee_schema::settings! {
    /// Settings of a connection to the bus. A hive passes its own to its workers.
    ConnectionSettings, each "setting of the connection" {
        /// Time limit for connecting to one server. If one of several is cut off, it may be tried first, and the queen must
        /// receive a heartbeat within 10 s: 6 s until the loss is noticed, and this.
        connect: Duration = 2 * SECOND,
        /// Time limit of a request to the server. A round trip takes less than a millisecond, a leader election 5 s.
        request: Duration = 8 * SECOND,
        /// Ping interval. Three missed pings mean a lost connection, so a network partition is noticed within 6 s. The default of
        /// the client library is 2 min.
        ping: Duration = 2 * SECOND,
        /// Time for which a reader is reopened that the server refuses, for example because its stream was deleted. Time in which
        /// the server cannot answer does not count.
        reader: Duration = 30 * SECOND,
        /// Time without a chunk after which a reader of an answer reads the stream, because the last chunk may have been lost.
        output_recheck: Duration = 5 * SECOND,
        /// Time after which an untaken command expires. By then the queen has planned again.
        command: Duration = MINUTE,
        /// Time that a command-line verb waits for the answers of all queens.
        discovery: Duration = SECOND / 2,
        /// Number of events that wait while the bus is unreachable. Further events are dropped, with an error in the log.
        outbox: u32 = 10_000,
        /// Time limit for the start of the server by `rbee up`. It takes 15 ms, or seconds if it recovers a large store.
        server_start: Duration = 30 * SECOND,
        /// Time limit for the stop of that server, which syncs its files first.
        server_stop: Duration = 10 * SECOND,
    }
}

impl ConnectionSettings {
    /// Checks that the settings fit together.
    ///
    /// # Errors
    /// A message that names the settings in conflict.
    pub fn check(&self) -> Result<(), String> {
        check_whole_seconds("command", self.command)?;
        check_at_least(("request", self.request), ("connect", self.connect))
    }
}

rbee_schema::settings! {
    /// Limits of the streams: age, size and number of messages. Queens apply them; other roles keep those of existing streams.
    BusLimits, each "limit of the bus" {
        /// Maximum number of waiting jobs of one model, class and tenant. Further jobs are refused with `queue-full`.
        queued: u32 = 10_000,
        /// Maximum size of all waiting and running jobs. The server reserves this disk space.
        jobs_size: Option<ByteSize> = None,
        /// Redelivery timeout: a job without a keep-alive for this long goes to another worker. It is the fallback if no hive
        /// returns the job. A hive kills a worker 10 s after its last heartbeat and then returns its jobs; two thirds of this
        /// time are longer, so that the server does not return them before. A raised value applies when the next worker starts,
        /// a lowered one after a model had no worker for ten minutes: running workers keep their jobs at the pace of the value
        /// that applied before.
        redelivery: Duration = 20 * SECOND,
        /// Time until a worker must have started an interactive job that states no queue deadline. Loading a large model takes up
        /// to 15 min, and may fail once; nobody waits for longer.
        interactive_queue_deadline: Option<Duration> = Some(30 * MINUTE),
        /// Time until an interactive job that states no deadline must be answered. A long answer of a large model on processors
        /// takes hours, and must not be cut. This ends jobs that were begun and that nobody can continue.
        interactive_deadline: Option<Duration> = Some(DAY),
        /// Time until a worker must have started a batch job that states no queue deadline. A fleet that answers batch jobs at
        /// night or at the weekend only gets to all of them.
        batch_queue_deadline: Option<Duration> = Some(7 * DAY),
        /// Time until a batch job that states no deadline must be answered: as long again as it may wait for its start, because
        /// interactive jobs pause it.
        batch_deadline: Option<Duration> = Some(14 * DAY),
        /// Age at which the output of answered jobs is deleted. Output of a job in the queue is never deleted.
        output_age: Duration = HOUR,
        /// Maximum size of the output of jobs. Nearly full, output of answered jobs is deleted before its age; full, the stream
        /// refuses the output of further jobs. The server reserves this disk space.
        output_size: ByteSize = ByteSize(4 << 30),
        /// Maximum age of events, including the audit trail.
        events_age: Duration = 30 * DAY,
        /// Maximum size of events. The oldest are deleted first.
        events_size: ByteSize = ByteSize(1 << 30),
        /// Maximum age of dead letters: jobs that were given up.
        dead_age: Duration = 30 * DAY,
        /// Maximum size of dead letters. The oldest are deleted first.
        dead_size: ByteSize = ByteSize(256 << 20),
        /// Maximum size of the body of a job. A body that is larger than 512 KiB is stored apart from its job.
        body_size: ByteSize = ByteSize(64 << 20),
        /// Maximum size of all such bodies. The server reserves this disk space. Full, further ones are refused with
        /// `queue-full`.
        bodies_size: ByteSize = ByteSize(2 << 30),
        /// Maximum size of the requests and answers of all batches. The server reserves this disk space. Full, a further file is
        /// refused, and a batch that runs fails.
        batches_size: ByteSize = ByteSize(2 << 30),
        /// Maximum age of a cancellation. A job that has waited for longer since it was cancelled is answered after all.
        cancels_age: Duration = 7 * DAY,
        /// Maximum size of stored cancellations: the default holds about 100,000. The oldest are deleted first.
        cancels_size: ByteSize = ByteSize(16 << 20),
        /// Maximum age of a command, whatever its own time to live.
        commands_age: Duration = HOUR,
        /// Time for which ids of jobs and events are remembered. A repeated one within it is stored once.
        duplicates: Duration = 2 * MINUTE,
    }
}

impl BusLimits {
    /// Checks that the settings fit together.
    ///
    /// # Errors
    /// A message that names the settings in conflict.
    pub fn check(&self) -> Result<(), String> {
        // The server refuses a stream that remembers ids for longer than messages.
        let duplicates = ("duplicates", self.duplicates);
        check_at_least(("events_age", self.events_age), duplicates)?;
        check_at_least(("dead_age", self.dead_age), duplicates)?;
        check_at_least(("cancels_age", self.cancels_age), duplicates)?;
        check_at_least(("commands_age", self.commands_age), duplicates)?;
        check_at_least(("redelivery", self.redelivery), ("the minimum", SHORTEST_REDELIVERY))
    }

    /// Time limits of jobs that state no deadlines.
    pub fn deadlines(&self) -> ClassLimits {
        ClassLimits {
            interactive: TimeLimits { total: self.interactive_deadline, queue: self.interactive_queue_deadline },
            batch: TimeLimits { total: self.batch_deadline, queue: self.batch_queue_deadline },
        }
    }

    /// Largest body that the bucket has room for.
    pub(crate) fn largest_body(&self) -> ByteSize {
        ByteSize(self.body_size.bytes().min(self.bodies_size.bytes() / 2))
    }

    /// These limits with all sizes halved so many times, each down to 1 MiB.
    #[must_use]
    pub fn halved(&self, times: u32) -> Self {
        let halved = |ByteSize(size): ByteSize| ByteSize(size.min((size >> times.min(63)).max(SMALLEST)));
        Self {
            jobs_size: self.jobs_size.map(halved),
            output_size: halved(self.output_size),
            events_size: halved(self.events_size),
            dead_size: halved(self.dead_size),
            cancels_size: halved(self.cancels_size),
            bodies_size: halved(self.bodies_size),
            batches_size: halved(self.batches_size),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_halved_down_to_a_mebibyte() {
        let limits: BusLimits = "jobs_size=1KiB,output_size=4GiB,dead_size=3MiB,queued=7".parse().expect("limits");
        assert_eq!(limits.halved(0), limits);
        let expected = "queued=7,jobs_size=1KiB,output_size=1GiB,events_size=256MiB,dead_size=1MiB,cancels_size=4MiB,\
                        bodies_size=512MiB,batches_size=512MiB";
        assert_eq!(limits.halved(2), expected.parse().expect("limits"));
        let least = "queued=7,jobs_size=1KiB,output_size=1MiB,events_size=1MiB,dead_size=1MiB,cancels_size=1MiB,\
                     bodies_size=1MiB,batches_size=1MiB";
        assert_eq!(limits.halved(u32::MAX), least.parse().expect("limits"));
    }

    #[test]
    fn settings_in_conflict_are_refused() {
        for (wrong, words) in [
            ("command=1500ms", "expected whole seconds"),
            ("request=1s", "`request=1s`: expected at least as long as connect, which is 2s"),
        ] {
            let error = wrong.parse::<ConnectionSettings>().expect_err(wrong);
            assert!(error.contains(words), "{error}");
        }
        for (wrong, words) in [
            ("events_age=1m", "`events_age=1m`: expected at least as long as duplicates, which is 2m"),
            ("dead_age=1m", "dead_age"),
            ("cancels_age=1m", "cancels_age"),
            ("commands_age=1m", "commands_age"),
            ("redelivery=500ms", "`redelivery=500ms`: expected at least as long as the minimum, which is 1s"),
            ("event_age=7d", "did you mean `events_age`?"),
        ] {
            let error = wrong.parse::<BusLimits>().expect_err(wrong);
            assert!(error.contains(words), "{error}");
        }
    }
}
