//! Subjects, streams and bodies of the messages of a simulated fleet. Bodies are values, so that nothing is parsed.

use std::{fmt, rc::Rc, time::Duration};

use rbee_nats::CommandIssuer;
use rbee_schema::{
    Chunk, HiveCommand, HiveHeartbeat, HiveName, HiveRecord, JobBlame, JobClass, JobFlow, JobId, LeaderRecord,
    ModelName, ModelSpec, PortLease, Tenant, WorkerHeartbeat, WorkerName, WorkerRecord,
};

use crate::broker::{Discard, Republish, Retention, StreamConfig};

/// Tenant and id of a job.
pub type JobKey = (Tenant, JobId);

/// Job of a simulated client.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Tenant and id.
    pub key: JobKey,
    /// Model that answers.
    pub model: ModelName,
    /// Class.
    pub class: JobClass,
    /// Number of tokens of the answer.
    pub tokens: u32,
    /// Time that each token takes.
    pub pace: Duration,
    /// The worker crashes when it computes the token with this index.
    pub poison: Option<u32>,
}

impl Job {
    /// Flow of the job.
    pub fn flow(&self) -> JobFlow {
        JobFlow { class: self.class, tenant: self.key.0.clone() }
    }

    /// The token at an index: a function of the job and the index, as the answers of real engines are.
    pub fn token(&self, index: u32) -> u32 {
        let seed = self
            .key
            .1
            .as_str()
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        (seed ^ index.wrapping_mul(0x9e37_79b9)).rotate_left(13).wrapping_mul(0x85eb_ca6b)
    }
}

/// A chunk and the attempt that wrote it.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// The chunk.
    pub chunk: Chunk,
    /// Attempt that wrote it: no two have the same. 0 for a queen.
    pub writer: u64,
}

/// Report of a worker that is not a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// Bytes of the model that are read.
    Loading {
        /// Bytes read.
        done: u64,
        /// Bytes to read.
        total: u64,
    },
    /// The worker takes jobs.
    Ready,
}

/// Spawn that a queen has commanded.
#[derive(Debug, Clone, PartialEq)]
pub struct Placed {
    /// Model of the worker.
    pub model: ModelName,
    /// Hive that runs it.
    pub hive: HiveName,
    /// Name of the worker.
    pub worker: WorkerName,
}

/// Body of a message.
#[derive(Clone, PartialEq)]
pub enum Body {
    /// Nothing.
    Empty,
    /// A job.
    Job(Rc<Job>),
    /// A chunk of output.
    Chunk(Rc<Written>),
    /// Heartbeat of a worker.
    Beat(Rc<(HiveName, WorkerName, WorkerHeartbeat)>),
    /// Heartbeat of a hive.
    HiveBeat(Rc<(HiveName, HiveHeartbeat)>),
    /// Report of a worker: its name and its epoch.
    Report(Rc<(WorkerName, u64, Report)>),
    /// Blame of a job.
    Blame(Rc<JobBlame>),
    /// A worker is to drain.
    Drain,
    /// Command to a hive.
    Command(Rc<(HiveCommand, CommandIssuer)>),
    /// Lease of a port.
    Lease(Rc<PortLease>),
    /// Record of a worker.
    Worker(Rc<WorkerRecord>),
    /// Record of a hive.
    Hive(Rc<HiveRecord>),
    /// Declaration of a model.
    Model(Rc<ModelSpec>),
    /// Record of the leader.
    Leader(Rc<LeaderRecord>),
    /// A spawn was commanded.
    Placed(Rc<Placed>),
    /// The name of a client whose connection ended.
    Disconnected(Rc<str>),
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(job) => write!(f, "job {}", job.key.1),
            Self::Chunk(written) => match &written.chunk {
                Chunk::Tokens { index, ids, .. } => write!(f, "tokens {index}+{} of {}", ids.len(), written.writer),
                Chunk::Error { error } => write!(f, "error {} of {}", error.code, written.writer),
                chunk => write!(f, "{chunk:?} of {}", written.writer),
            },
            Self::Beat(beat) => {
                let jobs: Vec<_> = beat.2.jobs.iter().map(|job| (job.job.as_str(), job.waits)).collect();
                write!(f, "beat {} {jobs:?}", beat.2.epoch)
            }
            Self::Report(report) => write!(f, "{report:?}"),
            Self::Blame(blame) => write!(f, "blame alone {} together {}", blame.alone, blame.together),
            Self::Command(command) => write!(f, "{command:?}"),
            Self::Lease(lease) => write!(f, "lease of {}", lease.worker),
            Self::Worker(record) => write!(f, "record {} {}", record.phase.as_str(), record.epoch),
            Self::Placed(placed) => write!(f, "placed {} on {}", placed.worker, placed.hive),
            Self::Disconnected(name) => write!(f, "disconnected {name}"),
            Self::Leader(record) => write!(f, "leader {}", record.queen),
            Self::Empty => f.write_str("nothing"),
            Self::HiveBeat(_) => f.write_str("hive beat"),
            Self::Drain => f.write_str("drain"),
            Self::Hive(_) => f.write_str("hive record"),
            Self::Model(_) => f.write_str("model"),
        }
    }
}

/// Subject of a job in the queue.
pub fn job_subject(model: &ModelName, flow: &JobFlow) -> Rc<str> {
    format!("job.{model}.{}.{}", flow.class, flow.tenant).into()
}

/// Reads the model and flow of `job.<model>.<class>.<tenant>`, or of a notice with the same tail.
pub fn flow_of(subject: &str) -> Option<(ModelName, JobFlow)> {
    let mut tokens = subject.split('.').skip(1);
    let (model, class, tenant) = (tokens.next()?, tokens.next()?, tokens.next()?);
    let flow = JobFlow { class: class.parse().ok()?, tenant: tenant.parse().ok()? };
    Some((model.parse().ok()?, flow))
}

/// Subject of a job's output.
pub fn output_subject((tenant, job): &JobKey) -> Rc<str> {
    format!("tok.{tenant}.{job}").into()
}

/// Subject on which a job's output is republished.
pub fn published_subject((tenant, job): &JobKey) -> Rc<str> {
    format!("out.{tenant}.{job}").into()
}

/// Subject of the cancellation of a job.
pub fn cancel_subject((tenant, job): &JobKey) -> Rc<str> {
    format!("cancel.{tenant}.{job}").into()
}

/// Reads the job of `cancel.<tenant>.<job>`, `tok.…` or `out.…`.
pub fn job_of(subject: &str) -> Option<JobKey> {
    let mut tokens = subject.split('.').skip(1);
    Some((tokens.next()?.parse().ok()?, tokens.next()?.parse().ok()?))
}

/// Subject of the blame of a job.
pub fn blame_subject((tenant, job): &JobKey) -> Rc<str> {
    format!("event.blamed.{tenant}.{job}").into()
}

/// Name of the consumer of a flow.
pub fn consumer_name(model: &ModelName, flow: &JobFlow) -> Rc<str> {
    format!("{model}={}={}", flow.class, flow.tenant).into()
}

/// Streams and buckets of a fleet, as `nats/src/topology.rs` has them.
pub fn streams(queued: u64, duplicates: Duration) -> Vec<StreamConfig> {
    let republish =
        |from: &str, to: &str, headers_only| Some(Republish { from: from.into(), to: to.into(), headers_only });
    let mut streams = vec![
        StreamConfig {
            retention: Retention::WorkQueue,
            discard: Discard::New,
            per_subject: Some(queued),
            republish: republish("job.", "queued.", true),
            ..StreamConfig::new("jobs", "job.>")
        },
        StreamConfig {
            discard: Discard::New,
            republish: republish("tok.", "out.", false),
            ..StreamConfig::new("output", "tok.>")
        },
        StreamConfig { per_subject: Some(1), ..StreamConfig::new("cancels", "cancel.>") },
        StreamConfig::new("events", "event.>"),
        StreamConfig { retention: Retention::WorkQueue, ..StreamConfig::new("commands", "cmd.>") },
    ];
    streams.extend(["ports", "hives", "workers", "queen", "models"].map(StreamConfig::bucket));
    streams.iter_mut().for_each(|stream| stream.duplicates = duplicates);
    streams
}
