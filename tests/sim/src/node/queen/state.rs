//! The state of a queen, and what happens to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Instant,
};

use rbee_queen::decide::fleet::{Effect, Fleet, WorkerKey};
use rbee_schema::{
    Failure, HiveCommand, HiveHeartbeat, HiveName, HiveRecord, ModelName, ModelSpec, QueenName, WorkerHeartbeat,
    WorkerName, WorkerRecord,
};

use crate::{
    network::Connection,
    node::{outbox::Outbox, site::Site},
    runtime::{Mailbox, Process},
    words::{Job, JobKey, Placed},
};

/// Entry of a registry.
#[derive(Debug)]
pub(super) enum Entry<T> {
    Set(String, Rc<T>),
    Removed(String),
    Synced,
}

/// A job in the queue.
#[derive(Debug, Clone)]
pub(super) struct Queued {
    pub(super) job: Rc<Job>,
    pub(super) sequence: u64,
    pub(super) stored: Instant,
}

/// Reason why jobs are refused.
#[derive(Debug, Clone)]
pub(super) enum Reason {
    /// Their model cannot be served.
    Unserved(Failure),
    /// Their model was not served in time.
    Overdue(Failure),
}

/// Result of a refusal: its filter, jobs that a worker has begun, and true if demand may be left.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) filter: String,
    pub(super) begun: Vec<(Queued, Reason)>,
    pub(super) leaves_demand: bool,
}

/// A cancelled job. `stored` is the time of a cancellation from before this queen led.
#[derive(Debug, Clone)]
pub(super) struct Cancelled {
    pub(super) key: JobKey,
    pub(super) stored: Option<Instant>,
}

/// Something that happened to a queen.
#[derive(Debug)]
pub(super) enum Event {
    Beat(Rc<(HiveName, WorkerName, WorkerHeartbeat)>),
    HiveBeat(Rc<(HiveName, HiveHeartbeat)>),
    Hive(Entry<HiveRecord>),
    Worker(Entry<WorkerRecord>),
    Model(Entry<ModelSpec>),
    Queued(ModelName),
    Cancel(JobKey),
    Placed(Rc<Placed>),
    Disconnected(Rc<str>),
    Online,
    /// The queue was counted; by model.
    Counted(Option<BTreeMap<ModelName, u64>>),
    Refused(Refused),
    HeartbeatsKnown,
    StoredCancels(Vec<Cancelled>),
    /// Cancelled jobs have left the queue: the model of each.
    CancelsDone(Vec<ModelName>),
    CommandNotStored(WorkerKey, Box<HiveCommand>, u64),
    /// This queen leads in this term, or does not.
    Leads(Option<u64>),
}

/// State of a queen.
pub(super) struct Controller {
    pub(super) site: Site,
    pub(super) name: QueenName,
    pub(super) process: Process,
    pub(super) connection: Connection,
    pub(super) outbox: Outbox,
    pub(super) mailbox: Mailbox<Event>,
    pub(super) fleet: Fleet,
    pub(super) unread_registries: u32,
    pub(super) term: Option<u64>,
    pub(super) count_started: Option<Instant>,
    pub(super) is_counting: bool,
    pub(super) listening_since: Instant,
    pub(super) refusals: Refusals,
    pub(super) cancels: Cancels,
    pub(super) next_worker: u64,
}

/// Refusals that run and wait.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    pub(super) running: BTreeSet<String>,
    pub(super) waiting: BTreeMap<String, Reason>,
    pub(super) begun: BTreeMap<JobKey, (Queued, Reason)>,
}

/// Cancellations that wait for this queen.
#[derive(Debug, Default)]
pub(super) struct Cancels {
    pub(super) waiting: Vec<Cancelled>,
    pub(super) is_running: bool,
    pub(super) running: BTreeMap<JobKey, WorkerKey>,
}

impl Controller {
    pub(super) fn leads(&self) -> bool {
        self.term.is_some()
    }

    pub(super) fn has_read_registries(&self) -> bool {
        self.unread_registries == 0
    }

    /// Carries out what follows from an input.
    pub(super) fn apply(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Publish(event) => self.process.log(|| format!("{event:?}")),
                Effect::CountQueue => self.count_queue(),
                Effect::DeleteRecord((hive, worker)) => {
                    if self.leads() {
                        self.outbox.remove(format!("workers.{hive}.{worker}"));
                    }
                }
            }
        }
    }
}
