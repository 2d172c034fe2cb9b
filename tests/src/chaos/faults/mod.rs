//! The faults, by what they strike.

mod hive;
mod load;
mod many;
mod network;
mod ports;
mod stop;
mod surroundings;
mod worker;

use std::time::{Duration, SystemTime};

use rbee_nats::OutputReader;
use rbee_schema::{Chunk, HiveCommand, PortEvent, StopMode, WorkerName};

use super::Fault;
use crate::{fleet::Fleet, wait::PATIENCE};

/// Every fault.
pub const FAULTS: &[Fault] = &[
    worker::KILLED_IN_MID_STREAM,
    worker::FROZEN,
    worker::FROZEN_WITHOUT_NOTICE,
    worker::THAWED,
    worker::HANGS,
    worker::UNHEALTHY,
    worker::OUT_OF_MEMORY,
    worker::CRASH_LOOP,
    load::SLOW,
    load::STALLED,
    load::TRUNCATED,
    load::CORRUPT,
    ports::FOREIGN_LISTENER,
    ports::LEAKED_LEASE,
    ports::STRAY_LEASE,
    hive::KILLED,
    hive::KILLED_TEN_TIMES,
    hive::KILLED_WHILE_SPAWNING,
    hive::KILLED_AND_WORKER_TOO,
    hive::KILLED_BEFORE_THE_LEDGER,
    hive::KILLED_BEFORE_THE_SPAWN,
    hive::FROZEN,
    hive::STARTED_TWICE,
    hive::NAME_TAKEN,
    stop::IGNORES_SIGTERM,
    stop::FIFTY_OF_WHICH_FIVE_IGNORE_SIGTERM,
    many::THOUSAND_SPAWNS,
    surroundings::BUS_KILLED,
    surroundings::DISK_FULL,
    surroundings::NUMBER_REUSED,
    network::CUT_OFF,
    network::DIED,
    network::FROZEN,
    network::CUT_OFF_WITH_BROKER,
];

const fn millis(millis: u64) -> Option<Duration> {
    Some(Duration::from_millis(millis))
}

/// What happens at once: on an idle machine in a millisecond or two.
const AT_ONCE: Option<Duration> = millis(50);

/// The timers of every fault, and some of one.
fn timers(more: &str) -> String {
    format!("{},{more}", super::TIMERS)
}

/// An answer as it comes.
struct Answer {
    output: OutputReader,
    chunks: Vec<Chunk>,
}

impl Answer {
    /// Submits a chat to a model of the test engine and waits until its answer has so many tokens.
    async fn of(fleet: &Fleet, model: &str, message: &str, tokens: usize) -> Self {
        let (_, output) = fleet.submit(model, crate::fleet::chat(message)).await;
        let mut answer = Self { output, chunks: Vec::new() };
        while crate::fleet::tokens(&answer.chunks).len() < tokens {
            answer.next().await;
        }
        answer
    }

    /// The next chunk, and when it came.
    async fn next(&mut self) -> (Chunk, SystemTime) {
        let next = self.output.next(PATIENCE).await.expect("the answer goes on").expect("the answer has no end yet");
        self.chunks.push(next.chunk.clone());
        (next.chunk, SystemTime::now())
    }

    /// Who answers now.
    fn worker(&self) -> WorkerName {
        let of = |chunk: &Chunk| match chunk {
            Chunk::Started { worker, .. } | Chunk::Resumed { worker, .. } => Some(worker.clone()),
            Chunk::Paused { .. }
            | Chunk::Tokens { .. }
            | Chunk::Embeddings { .. }
            | Chunk::Done { .. }
            | Chunk::Error { .. } => None,
        };
        self.chunks.iter().rev().find_map(of).expect("an answer begins with who answers")
    }

    /// How often another worker went on with it.
    fn resumed(&self) -> usize {
        self.chunks.iter().filter(|chunk| matches!(chunk, Chunk::Resumed { .. })).count()
    }

    /// Waits until another worker goes on with it; returns when its first token came.
    async fn goes_on_elsewhere(&mut self) -> SystemTime {
        let (before, resumed) = (self.worker(), self.resumed());
        loop {
            let (chunk, at) = self.next().await;
            if matches!(chunk, Chunk::Tokens { .. }) && self.resumed() > resumed {
                assert_ne!(self.worker(), before, "the job goes on elsewhere");
                return at;
            }
        }
    }

    /// Waits for its end. Whether it is whole is an invariant.
    async fn end(&mut self) {
        while !self.chunks.last().is_some_and(Chunk::is_last) {
            self.next().await;
        }
        assert!(matches!(self.chunks.last(), Some(Chunk::Done { .. })), "{:?}", self.chunks.last());
    }
}

/// Ends a worker for good, and waits until it is gone and its port is told to be free.
async fn end_worker(fleet: &Fleet, worker: &str) {
    let mut story = super::Story::of(&fleet.bus).await;
    let port = fleet.record(worker).await.and_then(|record| record.port);
    let name: WorkerName = worker.parse().expect("a name of a test is valid");
    fleet
        .tell_one(&HiveCommand::Stop { worker: name, why: "the test is over".to_owned(), mode: StopMode::Terminate })
        .await;
    story.named(worker, "removed").await;
    if let Some(port) = port {
        story.port(port, "released", |event| matches!(event, PortEvent::Released { .. }).then_some(())).await;
    }
}
