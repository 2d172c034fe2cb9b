//! Invariants of every fleet at rest, whatever has happened to it before.

use std::{collections::BTreeSet, time::SystemTime};

use async_nats::jetstream::stream::State;
use rbee_nats::{Registry, recent_events};
use rbee_schema::{Chunk, PortLease, WorkerPhase, WorkerRecord};

use super::{events::StoredEvent, history::History};
use crate::{
    fleet::{Fleet, RunningProcess, listener, tokens},
    wait::{PATIENCE, eventually},
};

/// A fleet is at rest after this number of checks in a row without a new event.
const QUIET_CHECKS: u32 = 15;

/// Waits until a fleet is at rest, then checks every invariant.
///
/// # Panics
/// When the fleet does not come to rest, or an invariant is violated; the message lists every violation.
pub async fn check_invariants(fleet: &Fleet) {
    rest(fleet).await;
    let found = violations(fleet).await;
    assert!(found.is_empty(), "the fleet is at rest and violates these invariants:\n- {}", found.join("\n- "));
}

/// True for a phase in which a worker stays unless something happens.
fn is_settled(record: &WorkerRecord) -> bool {
    match record.phase {
        WorkerPhase::Ready | WorkerPhase::CrashLoop | WorkerPhase::Failed => true,
        WorkerPhase::Requested
        | WorkerPhase::Spawning
        | WorkerPhase::Loading
        | WorkerPhase::Suspect
        | WorkerPhase::Draining
        | WorkerPhase::Stopping
        | WorkerPhase::Backoff => false,
    }
}

/// Waits until every worker is settled, no job waits or runs, no command waits, and no new event comes.
async fn rest(fleet: &Fleet) {
    let (mut last, mut quiet) = (0, 0);
    eventually("the fleet is at rest", PATIENCE, async || {
        // The servers answer nothing while they elect a leader.
        let Ok(records) = Registry::workers(&fleet.bus).all().await else { return false };
        let (Some(jobs), Some(commands)) = (stream(fleet, "jobs").await, stream(fleet, "commands").await) else {
            return false;
        };
        let Some(State { last_sequence: newest, .. }) = stream(fleet, "events").await else { return false };
        let (jobs, commands) = (jobs.messages, commands.messages);
        let is_quiet = newest == last && jobs + commands == 0 && records.iter().all(|(_, record)| is_settled(record));
        (last, quiet) = (newest, if is_quiet { quiet + 1 } else { 0 });
        quiet >= QUIET_CHECKS
    })
    .await;
}

async fn stream(fleet: &Fleet, name: &str) -> Option<State> {
    let stream = fleet.bus.jetstream().get_stream(fleet.bus.namespace().resource(name)).await.ok()?;
    Some(stream.cached_info().state.clone())
}

/// Every violation of an invariant.
async fn violations(fleet: &Fleet) -> Vec<String> {
    let workers = Registry::workers(&fleet.bus).all().await.expect("the server answers");
    let leases = Registry::ports(&fleet.bus).all().await.expect("the server answers");
    let running = fleet.running();
    let mut found = Vec::new();
    found.extend(leases.iter().filter_map(|(key, lease)| leaked_lease(key, lease, &workers)));
    for (key, record) in &workers {
        found.extend(inconsistent_worker(key, record, &leases, &running));
    }
    found.extend(shared_ports(&workers));
    found.extend(running.iter().filter_map(|process| orphan_process(process, &workers)));
    found.extend(history_mismatches(&history(fleet).await, &workers, &leases));
    found.extend(unanswered_jobs(fleet).await);
    found
}

/// The port of a lease key `<host>.<port>`.
fn port_of(key: &str) -> Option<u16> {
    key.rsplit_once('.')?.1.parse().ok()
}

fn holder(lease: &PortLease) -> String {
    format!("{}.{}", lease.hive, lease.worker)
}

/// A lease belongs to a worker that exists and has this port.
fn leaked_lease(key: &str, lease: &PortLease, workers: &[(String, WorkerRecord)]) -> Option<String> {
    let holder = holder(lease);
    let has = workers.iter().find(|(worker, _)| *worker == holder).map(|(_, record)| record.port);
    match has {
        Some(Some(port)) if Some(port) == port_of(key) => None,
        Some(has) => Some(format!("lease {key} names worker {holder}, which has port {has:?}")),
        None => Some(format!("lease {key} names worker {holder}, which does not exist")),
    }
}

/// A worker that has a process number has a live process and a lease, and the process listens on the leased port.
fn inconsistent_worker(
    key: &str,
    record: &WorkerRecord,
    leases: &[(String, PortLease)],
    running: &[RunningProcess],
) -> Vec<String> {
    let (pid, port) = match (record.pid, record.port) {
        (Some(pid), Some(port)) => (pid, port),
        (None, None) if record.phase != WorkerPhase::Ready => return Vec::new(),
        (pid, port) => {
            return vec![format!("worker {key} is {:?} with process {pid:?} and port {port:?}", record.phase)];
        }
    };
    let mut found = Vec::new();
    let name = key.rsplit_once('.').map_or(key, |(_, name)| name);
    let is_its = |process: &&RunningProcess| {
        process.inner_pid == pid
            && process.run.as_ref().is_some_and(|run| run.worker == name && run.epoch == record.epoch)
    };
    match running.iter().find(is_its) {
        None => found.push(format!("worker {key} has process {pid}, which has exited or belongs to another worker")),
        Some(process) => match listener(process.pid, port) {
            Some(inode) if process.sockets.contains(&inode) => {}
            Some(_) => found.push(format!("worker {key} has port {port}, on which another process listens")),
            None => found.push(format!("worker {key} has port {port}, on which no process listens")),
        },
    }
    let held = leases.iter().any(|(lease, held)| port_of(lease) == Some(port) && holder(held) == key);
    if !held {
        found.push(format!("worker {key} has port {port} without a lease"));
    }
    found
}

/// No two workers have the same port.
fn shared_ports(workers: &[(String, WorkerRecord)]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let ports = workers.iter().filter_map(|(key, record)| Some((key, record.port?)));
    ports.filter(|(_, port)| !seen.insert(*port)).map(|(key, port)| format!("{key} shares port {port}")).collect()
}

/// The process of a worker belongs to a worker that exists, and to its current run.
fn orphan_process(process: &RunningProcess, workers: &[(String, WorkerRecord)]) -> Option<String> {
    let run = process.run.as_ref()?;
    let is_its = |(key, record): &(String, WorkerRecord)| {
        key.rsplit_once('.').is_some_and(|(_, name)| name == run.worker)
            && record.epoch == run.epoch
            && record.pid.is_some()
    };
    (!workers.iter().any(is_its)).then(|| format!("process {} of run {run} belongs to no worker", process.pid))
}

async fn history(fleet: &Fleet) -> History {
    let records = recent_events(&fleet.bus, "rbee.evt.>", SystemTime::UNIX_EPOCH).await.expect("the server answers");
    let mut history = History::default();
    for stored in records.iter().filter_map(|record| StoredEvent::parse(&fleet.bus, record)) {
        history.apply(&stored.event);
    }
    history
}

/// A replay of all events leads to the state in the registries.
fn history_mismatches(
    history: &History,
    workers: &[(String, WorkerRecord)],
    leases: &[(String, PortLease)],
) -> Vec<String> {
    let mut found = Vec::new();
    for (key, record) in workers {
        match history.workers.get(key) {
            None => found.push(format!("worker {key} has no event")),
            Some(state) => {
                let process = record.pid.zip(record.port);
                // The events of a run that never had a process do not name its epoch.
                let same_run = state.epoch == record.epoch || process.is_none();
                if state.phase != record.phase || state.process != process || !same_run {
                    found.push(format!("the events of worker {key} lead to {state:?}, and its record is {record:?}"));
                }
            }
        }
    }
    let existing: BTreeSet<&String> = workers.iter().map(|(key, _)| key).collect();
    let gone = history.workers.keys().filter(|key| !existing.contains(key));
    found.extend(gone.map(|key| format!("worker {key} has events, no record, and was not removed")));
    let leased: BTreeSet<(u16, String)> = history.ports.clone().into_iter().collect();
    let held: BTreeSet<(u16, String)> =
        leases.iter().filter_map(|(key, lease)| Some((port_of(key)?, holder(lease)))).collect();
    found.extend(
        leased
            .difference(&held)
            .map(|(port, holder)| format!("by its events {holder} has port {port}, without a lease")),
    );
    found.extend(
        held.difference(&leased).map(|(port, holder)| format!("{holder} has a lease of port {port}, without an event")),
    );
    found
}

/// Every accepted job has one answer, with each token in its place and one end.
async fn unanswered_jobs(fleet: &Fleet) -> Vec<String> {
    use futures::StreamExt as _;
    let stream_name = fleet.bus.namespace().resource("output");
    let output = fleet.bus.jetstream().get_stream(stream_name).await.expect("the server answers");
    let mut subjects = output.info_with_subjects("rbee.tok.>").await.expect("the server answers");
    let mut found = Vec::new();
    let mut answered = 0;
    while let Some(subject) = subjects.next().await {
        let (subject, _) = subject.expect("the server answers");
        let Some(rbee_nats::Subject::Output(tenant, job)) = fleet.bus.parse(&subject) else { continue };
        let chunks = fleet.bus.stored_output(&tenant, &job, 0).await.expect("the server answers");
        let chunks: Vec<Chunk> = chunks.into_iter().map(|committed| committed.chunk).collect();
        answered += 1;
        found.extend(malformed_answer(&chunks).map(|why| format!("job {job} {why}")));
    }
    let jobs = fleet.bus.jetstream().get_stream(fleet.bus.namespace().resource("jobs")).await;
    let jobs = jobs.expect("the server answers").cached_info().clone();
    // Sequences of a new stream do not begin at 1.
    let accepted = (jobs.state.last_sequence + 1).saturating_sub(jobs.config.first_sequence.unwrap_or(1).max(1));
    if accepted != answered {
        found.push(format!("{accepted} jobs were accepted and {answered} were answered"));
    }
    found
}

fn malformed_answer(chunks: &[Chunk]) -> Option<String> {
    let ends = chunks.iter().filter(|chunk| chunk.is_last()).count();
    if ends != 1 || !chunks.last().is_some_and(Chunk::is_last) {
        return Some(format!("has {ends} final chunks, and the last chunk is {:?}", chunks.last()));
    }
    let indices: Vec<u32> = tokens(chunks).into_iter().map(|(index, _)| index).collect();
    let is_whole = indices.iter().copied().eq(0..indices.len() as u32);
    (!is_whole).then(|| format!("has tokens in the wrong order: {indices:?}"))
}
