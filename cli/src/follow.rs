//! A command to a hive, and what becomes of it: its events are printed until the one that ends it.

use std::time::Duration;

use rbee_nats::{Bus, EventReader, EventRecord, Subject};
use rbee_schema::{Event, FailureCode, HiveCommand, HiveEvent, HiveName, WorkerEvent, WorkerName};
use tokio::time::{Instant, timeout_at};

use crate::{Setting, outcome::Outcome};

/// How long nothing may be heard. A worker may take half a minute to finish its jobs, and some seconds to end.
const SILENCE: Duration = Duration::from_secs(60);

/// What a command is to lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// A worker is gone.
    Removed(WorkerName),
    /// A worker is started anew.
    Spawned(WorkerName),
    /// A hive drains and has no workers left.
    Drained,
    /// A hive takes workers again.
    Resumed,
    /// A hive has ended.
    Stopped,
}

/// What an event means to whoever waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    Nothing,
    Progress(String),
    Done(String),
    Failed(String),
}

/// Commands a hive, and prints what happens until what is awaited has come.
pub(crate) async fn command(
    setting: &Setting,
    bus: &Bus,
    hive: &HiveName,
    command: &HiveCommand,
    awaited: &Awaited,
) -> Result<(), Outcome> {
    // Before the command, so that no event is missed.
    let mut hive_events = EventReader::since(bus, &every_event(bus, hive), None).await?;
    let mut worker_events = EventReader::since(bus, &every_worker_event(bus, hive, awaited), None).await?;
    bus.command(hive, command).await?;
    let patience = setting.patience(SILENCE);
    let mut deadline = Instant::now() + patience;
    loop {
        let next = async {
            tokio::select! {
                record = hive_events.next() => record,
                record = worker_events.next() => record,
            }
        };
        let Ok(record) = timeout_at(deadline, next).await else { return Err(silent(hive, patience)) };
        let Some(record) = record? else { return Err(silent(hive, patience)) };
        match read(bus, &record).map_or(News::Nothing, |event| awaited.hear(&event)) {
            News::Nothing => continue,
            News::Progress(words) => print(setting, &record, &words),
            News::Done(words) => {
                print(setting, &record, &words);
                return Ok(());
            }
            News::Failed(words) => return Err(Outcome::failed(words)),
        }
        deadline = Instant::now() + patience;
    }
}

fn every_event(bus: &Bus, hive: &HiveName) -> String {
    bus.subject(&Subject::HiveEvent(hive.clone(), "*".to_owned()))
}

fn every_worker_event(bus: &Bus, hive: &HiveName, awaited: &Awaited) -> String {
    match awaited {
        Awaited::Removed(worker) | Awaited::Spawned(worker) => {
            bus.subject(&Subject::WorkerEvent(hive.clone(), worker.clone(), "*".to_owned()))
        }
        Awaited::Drained | Awaited::Resumed | Awaited::Stopped => bus.namespace().worker_events_of(hive),
    }
}

fn silent(hive: &HiveName, patience: Duration) -> Outcome {
    Outcome::unavailable(format!(
        "hive {hive} was told, and nothing was heard for {patience:?} (--patience): `rbee hives` lists the hives that are there, \
         `rbee events evt.hive.{hive}.> --since 5m` what this one said"
    ))
}

/// An event, unless it is one that this version does not know.
pub(crate) fn read(bus: &Bus, record: &EventRecord) -> Option<Event> {
    match bus.parse(&record.subject)? {
        Subject::QueenEvent(queen, _) => Some(Event::Queen(queen, serde_json::from_slice(&record.body).ok()?)),
        Subject::HiveEvent(hive, _) => Some(Event::Hive(hive, serde_json::from_slice(&record.body).ok()?)),
        Subject::WorkerEvent(hive, worker, _) => {
            Some(Event::Worker(hive, worker, serde_json::from_slice(&record.body).ok()?))
        }
        _ => None,
    }
}

pub(crate) fn print(setting: &Setting, record: &EventRecord, words: &str) {
    if setting.json {
        let body: serde_json::Value = serde_json::from_slice(&record.body).unwrap_or_default();
        println!("{}", serde_json::json!({ "subject": record.subject, "body": body }));
    } else {
        println!("{words}");
    }
}

impl Awaited {
    pub(crate) fn hear(&self, event: &Event) -> News {
        match event {
            Event::Hive(hive, event) => self.hear_hive(hive, event),
            Event::Worker(_, worker, event) => self.hear_worker(worker, event),
            Event::Queen(..) | Event::Port(..) | Event::Model(..) | Event::Job(..) | Event::Alert(..) => News::Nothing,
        }
    }

    fn hear_worker(&self, worker: &WorkerName, event: &WorkerEvent) -> News {
        let Some(words) = words(event) else { return News::Nothing };
        let words = format!("{worker} {words}");
        match (self, event) {
            (Self::Removed(awaited), WorkerEvent::Removed { .. }) if awaited == worker => News::Done(words),
            (Self::Spawned(awaited), WorkerEvent::Spawned { .. }) if awaited == worker => News::Done(words),
            (Self::Spawned(awaited), WorkerEvent::Failed { .. } | WorkerEvent::Removed { .. }) if awaited == worker => {
                News::Failed(words)
            }
            _ => News::Progress(words),
        }
    }

    fn hear_hive(&self, hive: &HiveName, event: &HiveEvent) -> News {
        match (self, event) {
            (_, HiveEvent::Fenced { by }) => {
                News::Failed(format!("{hive} has ended: another hive of its name runs on {by}"))
            }
            (Self::Spawned(_) | Self::Resumed, HiveEvent::Stopped { .. }) => {
                News::Failed(format!("{hive} has stopped"))
            }
            (Self::Removed(_) | Self::Drained | Self::Stopped, HiveEvent::Stopped { killed }) => {
                News::Done(match killed {
                    0 => format!("{hive} has stopped"),
                    killed => format!("{hive} has stopped; workers that had to be killed: {killed}"),
                })
            }
            (Self::Drained, HiveEvent::Draining { workers: 0, .. } | HiveEvent::Drained { left: 0 }) => {
                News::Done(format!("{hive} drains and has no workers left"))
            }
            (
                Self::Drained | Self::Stopped,
                HiveEvent::Draining { workers: left, .. } | HiveEvent::Drained { left },
            ) => News::Progress(format!("{hive} drains; workers that are left: {left}")),
            (Self::Resumed, HiveEvent::Resumed {}) => News::Done(format!("{hive} takes workers again")),
            (Self::Drained, HiveEvent::Resumed {}) => {
                News::Failed(format!("{hive} takes workers again: somebody has ended its drain"))
            }
            (Self::Spawned(_), HiveEvent::Refused { failure }) => News::Failed(failure.to_string()),
            (Self::Removed(_), HiveEvent::Refused { failure }) if failure.code == FailureCode::UnknownWorker => {
                News::Failed(failure.to_string())
            }
            (Self::Stopped, HiveEvent::Refused { failure }) if failure.code == FailureCode::StaleCommand => {
                News::Failed(format!("{hive} was started anew meanwhile: {failure}"))
            }
            // Among them what it refuses to others.
            _ => News::Nothing,
        }
    }
}

/// What an event says to whoever follows; reads after the worker's name.
fn words(event: &WorkerEvent) -> Option<String> {
    Some(match event {
        WorkerEvent::Spawned { pid, port, .. } => format!("is started as process {pid} on port {port}"),
        WorkerEvent::Draining { .. } => "finishes its jobs".to_owned(),
        WorkerEvent::Stopping { why } => format!("is told to end: {why}"),
        WorkerEvent::Unkillable { pid, .. } => format!("does not end although it was killed: look at process {pid}"),
        WorkerEvent::Exited { jobs_returned: 0, .. } => "has ended".to_owned(),
        WorkerEvent::Exited { jobs_returned, .. } => format!("has ended; jobs that go on elsewhere: {jobs_returned}"),
        WorkerEvent::Failed { failure, .. } => format!("could not be started: {failure}"),
        WorkerEvent::Removed { .. } => "is gone".to_owned(),
        WorkerEvent::Loading { .. }
        | WorkerEvent::Ready { .. }
        | WorkerEvent::Adopted { .. }
        | WorkerEvent::Suspect { .. }
        | WorkerEvent::Recovered { .. }
        | WorkerEvent::Restarting { .. }
        | WorkerEvent::CrashLooped { .. }
        | WorkerEvent::Ignored { .. } => return None,
    })
}

#[cfg(test)]
mod tests;
