//! What an operator may set about the bus: how a process deals with its connection, and what the bus keeps.

use std::time::Duration;

use rbee_schema::{ByteSize, check_at_least, check_whole_seconds};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Workers say several times within it that they go on with a job.
const SHORTEST_REDELIVERY: Duration = SECOND;

rbee_schema::settings! {
    /// How a process deals with its connection to the bus. A hive hands its own on to its workers.
    ConnectionSettings, each "setting of the connection" {
        /// How long one server may take until it lets us in. Where one of several is cut off it may be the first that is
        /// tried, and whoever waits for us has to hear of us within 10 s: six until we notice, and this.
        connect: Duration = 2 * SECOND,
        /// The longest that one request to the server may take. A round trip takes under a millisecond; a leader election
        /// 5 s.
        request: Duration = 8 * SECOND,
        /// Three missed pings mean a dead connection: a partition is noticed within 6 s, where the client's own default is
        /// 2 min.
        ping: Duration = 2 * SECOND,
        /// How long a reader whose place at the server is gone is opened anew before it is given up, where the server
        /// refuses it: somebody has deleted a stream. What it cannot answer for now does not count.
        reader: Duration = 30 * SECOND,
        /// Who follows an answer and hears nothing for this long looks at the stream: the last chunk may have been lost on
        /// its way.
        output_recheck: Duration = 5 * SECOND,
        /// A command of this process that nobody took for this long is stale: the queen has long planned anew.
        command: Duration = MINUTE,
        /// How long queens have to say that they are there when a verb asks.
        discovery: Duration = SECOND / 2,
        /// So many events are kept here while the bus is away; beyond it the newest is dropped and said so.
        outbox: u32 = 10_000,
        /// How long the server that `rbee up` starts may take: 15 ms, and seconds where a large store is recovered.
        server_start: Duration = 30 * SECOND,
        /// How long it may take to end. It syncs its files first.
        server_stop: Duration = 10 * SECOND,
    }
}

impl ConnectionSettings {
    /// # Errors
    /// What does not fit together.
    pub fn check(&self) -> Result<(), String> {
        check_whole_seconds("command", self.command)?;
        check_at_least(("request", self.request), ("connect", self.connect))
    }
}

rbee_schema::settings! {
    /// What the bus keeps, for how long, and how much of it. Queens bring its streams to this; everybody else leaves them as
    /// they are.
    BusLimits, each "limit of the bus" {
        /// Jobs of one model, class and tenant that may wait: back-pressure begins here.
        queued: u32 = 10_000,
        /// The size of all jobs that wait or run. The server reserves such room.
        jobs_size: Option<ByteSize> = None,
        /// A delivery that its worker does not speak of for this long goes to another worker: the backstop where no hive
        /// gives it back. Workers that run keep to what held when they started.
        redelivery: Duration = 10 * SECOND,
        /// How long what a job has answered can be read.
        output_age: Duration = HOUR,
        /// And how much of it is kept. The oldest goes first. The server reserves such room.
        output_size: ByteSize = ByteSize(4 << 30),
        /// How long events are kept, the audit trail among them.
        events_age: Duration = 30 * DAY,
        /// And how much of them is kept. The oldest go first.
        events_size: ByteSize = ByteSize(1 << 30),
        /// How long jobs that were given up are kept.
        dead_age: Duration = 30 * DAY,
        /// And how much of them is kept. The oldest go first.
        dead_size: ByteSize = ByteSize(256 << 20),
        /// How long a command is kept at most, whatever its own time to live.
        commands_age: Duration = HOUR,
        /// How long the id of a job or an event is remembered: within it the same one is stored once.
        duplicates: Duration = 2 * MINUTE,
    }
}

impl BusLimits {
    /// # Errors
    /// What does not fit together.
    pub fn check(&self) -> Result<(), String> {
        // The server takes no stream that remembers ids for longer than messages.
        let duplicates = ("duplicates", self.duplicates);
        check_at_least(("output_age", self.output_age), duplicates)?;
        check_at_least(("events_age", self.events_age), duplicates)?;
        check_at_least(("dead_age", self.dead_age), duplicates)?;
        check_at_least(("commands_age", self.commands_age), duplicates)?;
        check_at_least(("redelivery", self.redelivery), ("the shortest", SHORTEST_REDELIVERY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_do_not_fit_each_other_or_the_server_are_refused() {
        for (wrong, words) in [
            ("command=1500ms", "expected whole seconds"),
            ("request=1s", "`request=1s`: expected at least as long as connect, which is 2s"),
        ] {
            let error = wrong.parse::<ConnectionSettings>().expect_err(wrong);
            assert!(error.contains(words), "{error}");
        }
        for (wrong, words) in [
            ("output_age=1m", "`output_age=1m`: expected at least as long as duplicates, which is 2m"),
            ("events_age=1m", "events_age"),
            ("dead_age=1m", "dead_age"),
            ("commands_age=1m", "commands_age"),
            ("redelivery=500ms", "`redelivery=500ms`: expected at least as long as the shortest, which is 1s"),
            ("event_age=7d", "did you mean `events_age`?"),
        ] {
            let error = wrong.parse::<BusLimits>().expect_err(wrong);
            assert!(error.contains(words), "{error}");
        }
    }
}
