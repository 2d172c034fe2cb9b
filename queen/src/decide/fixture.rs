//! What the tests of several decisions start from.

use std::time::{Duration, Instant};

use rbee_schema::{
    ByteSize, Failure, FailureCode, HiveRecord, JobInFlight, Labels, ModelReference, ModelSpec, Protocol, Replicas,
    WorkerHeartbeat, WorkerName, WorkerPhase, WorkerRecord,
};

use crate::decide::{
    bounds::Bounds,
    fleet::{Change, Fleet, WorkerKey},
    scale::{self, Order},
    timers::Timers,
    touched::Scope,
};

pub(super) fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a name")
}

pub(super) fn spec() -> ModelSpec {
    ModelSpec::new(ModelReference::Mock(String::new()))
}

pub(super) fn hive() -> HiveRecord {
    HiveRecord {
        epoch: 1,
        version: "0".into(),
        host: name("host"),
        first_port: 8080,
        last_port: 9999,
        pid: 1,
        state_id: String::new(),
        draining: false,
        degraded: None,
        memory: ByteSize(0),
        cores: 0,
        limit_method: None,
        metrics: None,
        protocol: Protocol::OURS,
        labels: Labels::new(),
        devices: Vec::new(),
        kinds: Vec::new(),
        max_workers: None,
        clock_skew_ms: 0,
    }
}

pub(super) fn draining() -> HiveRecord {
    HiveRecord { draining: true, ..hive() }
}

pub(super) fn degraded() -> HiveRecord {
    HiveRecord { degraded: Some("three workers loop".into()), ..hive() }
}

pub(super) fn record(phase: WorkerPhase) -> WorkerRecord {
    WorkerRecord {
        model: name("m"),
        phase,
        epoch: 1,
        pid: None,
        port: None,
        slots: 2,
        exits: 0,
        limits: None,
        failure: None,
        spec: None,
    }
}

pub(super) fn failed(code: FailureCode) -> WorkerRecord {
    WorkerRecord { failure: Some(Failure::new(code, "told so")), ..record(WorkerPhase::Failed) }
}

pub(super) fn looping() -> WorkerRecord {
    let failure = Failure::new(FailureCode::CrashLoop, "it ended 5 times by signal 9");
    WorkerRecord { exits: 5, failure: Some(failure), ..record(WorkerPhase::CrashLoop) }
}

pub(super) fn key(hive: &str, worker: &str) -> WorkerKey {
    (name(hive), name::<WorkerName>(worker))
}

pub(super) fn beat(jobs: usize) -> WorkerHeartbeat {
    let job = JobInFlight { tenant: name("t"), job: name("j"), ack: String::new() };
    let jobs = vec![job; jobs];
    WorkerHeartbeat { model: name("m"), epoch: 1, slots: 2, jobs, tokens: 0, steps: 0, memory_bytes: 0, cache: None }
}

/// A fleet of one hive `a` with model `m`. No hive becomes suspect while a test counts minutes.
pub(super) fn fleet(replicas: Replicas) -> Fleet {
    let mut fleet = Fleet::new(Timers { suspect: Duration::from_secs(3600), ..Timers::default() }, Bounds::default());
    fleet.hive_is_there(name("a"), hive(), Instant::now());
    fleet.model_is(name("m"), ModelSpec { replicas, ..spec() });
    fleet
}

/// A hive ends in good order: its key goes, then its connection.
pub(super) fn leaves(fleet: &mut Fleet, hive: &str) -> Change {
    fleet.hive_has_no_key(&name(hive));
    fleet.hive_is_disconnected(&name(hive))
}

/// As it is when a worker could not be started and its hive was told to forget it.
pub(super) fn fails(fleet: &mut Fleet, hive: &str, code: FailureCode, now: Instant) {
    fleet.worker_is(key(hive, "w"), failed(code), now);
    fleet.worker_is_gone(&key(hive, "w"));
}

/// What would be done now about all models.
pub(super) fn orders(fleet: &Fleet, now: Instant) -> Vec<Order> {
    scale::orders(&mut fleet.clone(), &Scope::Everything, now)
}

pub(super) fn next_look(fleet: &Fleet, now: Instant) -> Option<Instant> {
    scale::next_look(fleet, &Scope::Everything, now)
}
