//! Fleets and records for the tests of decisions.

use std::time::{Duration, Instant};

use rbee_schema::{
    ByteSize, Failure, FailureCode, HiveRecord, JobInFlight, Labels, ModelReference, ModelSpec, Protocol, Replicas,
    WorkerHeartbeat, WorkerName, WorkerPhase, WorkerRecord,
};

use crate::decide::{
    dirty::Scope,
    fleet::{Effect, Fleet, WorkerKey},
    limits::QueenLimits,
    plan::{self, Action},
    timers::Timers,
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
    HiveRecord { degraded: Some("three workers crash".into()), ..hive() }
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
    WorkerRecord { failure: Some(Failure::new(code, "as reported")), ..record(WorkerPhase::Failed) }
}

pub(super) fn looping() -> WorkerRecord {
    let failure = Failure::new(FailureCode::CrashLoop, "the worker exited 5 times, last by signal 9");
    WorkerRecord { exits: 5, failure: Some(failure), ..record(WorkerPhase::CrashLoop) }
}

pub(super) fn key(hive: &str, worker: &str) -> WorkerKey {
    (name(hive), name::<WorkerName>(worker))
}

pub(super) fn beat(jobs: usize) -> WorkerHeartbeat {
    let job = JobInFlight { tenant: name("t"), job: name("j"), ack: String::new(), waits: false, redelivery_ms: None };
    let jobs = vec![job; jobs];
    WorkerHeartbeat {
        model: name("m"),
        epoch: 1,
        slots: 2,
        jobs,
        tokens: 0,
        steps: 0,
        blocked: 0,
        memory_bytes: 0,
        cache: None,
    }
}

/// A fleet of one hive `a` with model `m`. No hive becomes suspect while a test counts minutes.
pub(super) fn fleet(replicas: Replicas) -> Fleet {
    let timers = Timers { suspect: Duration::from_secs(3600), ..Timers::default() };
    fleet_with(replicas, timers, QueenLimits::default())
}

/// A fleet of one hive `a` with model `m`.
pub(super) fn fleet_with(replicas: Replicas, timers: Timers, limits: QueenLimits) -> Fleet {
    let mut fleet = Fleet::new(timers, limits);
    fleet.hive_registered(name("a"), hive(), Instant::now());
    fleet.model_declared(name("m"), ModelSpec { replicas, ..spec() });
    fleet
}

/// Stops a hive as it should be: its key is removed, then its connection ends.
pub(super) fn leaves(fleet: &mut Fleet, hive: &str) -> Vec<Effect> {
    fleet.hive_key_removed(&name(hive));
    fleet.hive_disconnected(&name(hive))
}

/// Fails the start of a worker, whose hive then forgets it.
pub(super) fn fails(fleet: &mut Fleet, hive: &str, code: FailureCode, now: Instant) {
    fleet.worker_updated(key(hive, "w"), failed(code), now);
    fleet.worker_removed(&key(hive, "w"));
}

/// Actions of a planning pass over all models.
pub(super) fn actions(fleet: &Fleet, now: Instant) -> Vec<Action> {
    plan::plan(fleet, &Scope::Everything, now).actions
}

pub(super) fn next_deadline(fleet: &Fleet, now: Instant) -> Option<Instant> {
    plan::next_deadline(fleet, &Scope::Everything, now)
}
