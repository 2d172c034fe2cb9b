//! What must be so of every fleet that has come to rest, whatever has happened to it.

use std::{collections::BTreeSet, time::SystemTime};

use async_nats::jetstream::stream::State;
use rbee_nats::{Registry, recent_events};
use rbee_schema::{Chunk, PortLease, WorkerPhase, WorkerRecord};

use super::{Told, history::History};
use crate::{
    fleet::{Fleet, RunningProcess, processes::listener},
    wait::{PATIENCE, eventually},
};

/// So many looks in a row at which nothing new was told: the fleet rests.
const QUIET_LOOKS: u32 = 15;

/// Waits until a fleet rests, then looks at all of it once.
///
/// # Panics
/// When it does not come to rest, or something is not as it must be; the message says everything that was found.
pub async fn check_invariants(fleet: &Fleet) {
    rest(fleet).await;
    let found = violations(fleet).await;
    assert!(found.is_empty(), "the fleet rests, and\n- {}", found.join("\n- "));
}

/// A worker that is in one of these stays there unless something happens.
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

/// Every worker is where it stays, no job waits or runs, no command waits, and nothing is told any more.
async fn rest(fleet: &Fleet) {
    let (mut last, mut quiet) = (0, 0);
    eventually("the fleet rests", PATIENCE, async || {
        // While servers elect a leader nobody answers.
        let Ok(records) = Registry::workers(&fleet.bus).all().await else { return false };
        let (Some(jobs), Some(commands)) = (stream(fleet, "jobs").await, stream(fleet, "commands").await) else {
            return false;
        };
        let Some(State { last_sequence: told, .. }) = stream(fleet, "events").await else { return false };
        let (jobs, commands) = (jobs.messages, commands.messages);
        let is_quiet = told == last && jobs + commands == 0 && records.iter().all(|(_, record)| is_settled(record));
        (last, quiet) = (told, if is_quiet { quiet + 1 } else { 0 });
        quiet >= QUIET_LOOKS
    })
    .await;
}

async fn stream(fleet: &Fleet, name: &str) -> Option<State> {
    let stream = fleet.bus.jetstream().get_stream(fleet.bus.namespace().resource(name)).await.ok()?;
    Some(stream.cached_info().state.clone())
}

/// Everything that is not as it must be.
async fn violations(fleet: &Fleet) -> Vec<String> {
    let workers = Registry::workers(&fleet.bus).all().await.expect("the server answers");
    let leases = Registry::ports(&fleet.bus).all().await.expect("the server answers");
    let running = fleet.running();
    let mut found = Vec::new();
    found.extend(leases.iter().filter_map(|(key, lease)| leaked(key, lease, &workers)));
    for (key, record) in &workers {
        found.extend(unfounded(key, record, &leases, &running));
    }
    found.extend(shared(&workers));
    found.extend(running.iter().filter_map(|process| ownerless(process, &workers)));
    found.extend(unlike_history(&history(fleet).await, &workers, &leases));
    found.extend(unanswered(fleet).await);
    found
}

/// `<host>.<port>`.
fn port_of(key: &str) -> Option<u16> {
    key.rsplit_once('.')?.1.parse().ok()
}

fn holder(lease: &PortLease) -> String {
    format!("{}.{}", lease.hive, lease.worker)
}

/// A lease is of a worker that is there and has this port.
fn leaked(key: &str, lease: &PortLease, workers: &[(String, WorkerRecord)]) -> Option<String> {
    let holder = holder(lease);
    let has = workers.iter().find(|(worker, _)| *worker == holder).map(|(_, record)| record.port);
    match has {
        Some(Some(port)) if Some(port) == port_of(key) => None,
        Some(has) => Some(format!("lease {key} names worker {holder}, which has port {has:?}")),
        None => Some(format!("lease {key} names worker {holder}, which is not there")),
    }
}

/// A worker with a process has one that lives, with a lease of its own, and listens on it.
fn unfounded(
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
        None => found.push(format!("worker {key} has process {pid}, which does not live or is another's")),
        Some(process) => match listener(process.pid, port) {
            Some(inode) if process.sockets.contains(&inode) => {}
            Some(_) => found.push(format!("worker {key} has port {port}, on which another process listens")),
            None => found.push(format!("worker {key} has port {port}, on which nobody listens")),
        },
    }
    let held = leases.iter().any(|(lease, held)| port_of(lease) == Some(port) && holder(held) == key);
    if !held {
        found.push(format!("worker {key} has port {port} without a lease"));
    }
    found
}

/// No two workers have one port.
fn shared(workers: &[(String, WorkerRecord)]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let ports = workers.iter().filter_map(|(key, record)| Some((key, record.port?)));
    ports.filter(|(_, port)| !seen.insert(*port)).map(|(key, port)| format!("{key} shares port {port}")).collect()
}

/// A process of a worker belongs to one that is there, in the run in which it is.
fn ownerless(process: &RunningProcess, workers: &[(String, WorkerRecord)]) -> Option<String> {
    let run = process.run.as_ref()?;
    let is_its = |(key, record): &(String, WorkerRecord)| {
        key.rsplit_once('.').is_some_and(|(_, name)| name == run.worker)
            && record.epoch == run.epoch
            && record.pid.is_some()
    };
    (!workers.iter().any(is_its)).then(|| format!("process {} of run {run} belongs to nobody", process.pid))
}

async fn history(fleet: &Fleet) -> History {
    let records = recent_events(&fleet.bus, "rbee.evt.>", SystemTime::UNIX_EPOCH).await.expect("the server answers");
    let mut history = History::default();
    for told in records.iter().filter_map(|record| Told::read(&fleet.bus, record)) {
        history.tell(&told.event);
    }
    history
}

/// Who replays the events comes to what the registries say.
fn unlike_history(
    history: &History,
    workers: &[(String, WorkerRecord)],
    leases: &[(String, PortLease)],
) -> Vec<String> {
    let mut found = Vec::new();
    for (key, record) in workers {
        match history.workers.get(key) {
            None => found.push(format!("no event tells of worker {key}")),
            Some(life) => {
                let process = record.pid.zip(record.port);
                // A run that never had a process is told without its number.
                let same_run = life.epoch == record.epoch || process.is_none();
                if life.phase != record.phase || life.process != process || !same_run {
                    found.push(format!("of worker {key} the events say {life:?}, and its record {record:?}"));
                }
            }
        }
    }
    let there: BTreeSet<&String> = workers.iter().map(|(key, _)| key).collect();
    let gone = history.workers.keys().filter(|key| !there.contains(key));
    found.extend(gone.map(|key| format!("the events tell of worker {key}, which has no record and was not removed")));
    let told: BTreeSet<(u16, String)> = history.ports.clone().into_iter().collect();
    let held: BTreeSet<(u16, String)> =
        leases.iter().filter_map(|(key, lease)| Some((port_of(key)?, holder(lease)))).collect();
    found.extend(told.difference(&held).map(|(port, who)| format!("by the events {who} has port {port}: no lease")));
    found.extend(held.difference(&told).map(|(port, who)| format!("{who} has leased port {port}: no event")));
    found
}

/// Every job that was accepted is answered once: each token in its place, and one end.
async fn unanswered(fleet: &Fleet) -> Vec<String> {
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
        found.extend(misanswered(&chunks).map(|why| format!("job {job} {why}")));
    }
    let accepted = stream(fleet, "jobs").await.expect("the server answers").last_sequence;
    if accepted != answered {
        found.push(format!("{accepted} jobs were accepted and {answered} answered"));
    }
    found
}

fn misanswered(chunks: &[Chunk]) -> Option<String> {
    let ends = chunks.iter().filter(|chunk| chunk.is_last()).count();
    if ends != 1 || !chunks.last().is_some_and(Chunk::is_last) {
        return Some(format!("has {ends} ends, and last {:?}", chunks.last()));
    }
    let indices: Vec<u32> = crate::fleet::tokens(chunks).into_iter().map(|(index, _)| index).collect();
    let is_whole = indices.iter().copied().eq(0..indices.len() as u32);
    (!is_whole).then(|| format!("has its tokens out of place: {indices:?}"))
}
