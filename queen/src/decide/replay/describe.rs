//! Inputs and recorded decisions as sentences.

use rbee_schema::{Event, HiveEvent, JobEvent, ModelEvent, QueenEvent};

use super::input::Input;
use crate::decide::story::tell;

/// The input as a sentence. `None` for an event that the planner does not learn of.
pub(super) fn input(input: &Input) -> Option<String> {
    let event = match input {
        Input::JobQueued(tenant, job, submitted) => {
            let (class, model) = (submitted.class, &submitted.model);
            return Some(format!("job {job} of tenant {tenant} is queued as {class} job of {model}"));
        }
        Input::LastHeartbeat => return None,
        Input::Event(event) => event,
    };
    match event {
        Event::Queen(queen, QueenEvent::Elected { term, .. }) => Some(format!("queen {queen} leads in term {term}")),
        Event::Queen(queen, QueenEvent::Deposed { .. }) => Some(format!("queen {queen} leads no longer")),
        Event::Queen(queen, QueenEvent::Stopped {}) => Some(format!("queen {queen} stopped")),
        Event::Queen(_, QueenEvent::HiveSuspected { hive, why }) => Some(format!("hive {hive} is suspect: {why}")),
        Event::Queen(_, QueenEvent::HiveLost { hive, .. }) => Some(format!("hive {hive} is lost")),
        Event::Queen(_, QueenEvent::HiveReturned { hive, .. }) => Some(format!("hive {hive} has returned")),
        Event::Queen(_, QueenEvent::HiveRemoved { hive, .. }) => Some(format!("hive {hive} is removed")),
        Event::Queen(_, event @ QueenEvent::Placed { .. }) => tell::queen(event),
        Event::Queen(..) | Event::Port(..) | Event::Tenant(..) | Event::Alert(..) => None,
        Event::Hive(hive, event) => match event {
            HiveEvent::Joined { .. } => Some(format!("hive {hive} joined")),
            HiveEvent::Degraded { why } => Some(format!("hive {hive} is degraded: {why}")),
            HiveEvent::Restored {} => Some(format!("hive {hive} is no longer degraded")),
            HiveEvent::Draining { why, .. } => Some(format!("hive {hive} is draining: {why}")),
            HiveEvent::Resumed {} => Some(format!("hive {hive} takes workers again")),
            HiveEvent::Stopped { .. } => Some(format!("hive {hive} stopped")),
            HiveEvent::Fetched { reference, .. } => Some(format!("hive {hive} fetched {reference}")),
            HiveEvent::FileRemoved { reference, .. } => Some(format!("hive {hive} deleted {reference}")),
            HiveEvent::Recovered { .. }
            | HiveEvent::Drained { .. }
            | HiveEvent::Fenced { .. }
            | HiveEvent::Refused { .. }
            | HiveEvent::FetchProgress { .. }
            | HiveEvent::FetchFailed { .. } => None,
        },
        Event::Worker(hive, worker, event) => tell::worker(hive, worker, event),
        Event::Model(model, ModelEvent::Declared { .. }) => Some(format!("model {model} is declared")),
        Event::Model(model, ModelEvent::Withdrawn {}) => Some(format!("model {model} is withdrawn")),
        Event::Model(model, ModelEvent::Refused { failure }) => Some(format!("model {model} is refused: {failure}")),
        Event::Job(tenant, job, JobEvent::Started { hive, worker, .. }) => {
            Some(format!("job {job} of tenant {tenant}: worker {worker} on {hive} takes it"))
        }
        Event::Job(tenant, job, event) => tell::job(event).map(|text| format!("job {job} of tenant {tenant}: {text}")),
    }
}

/// A recorded decision as a sentence.
pub(super) fn recorded(event: &Event) -> String {
    match event {
        Event::Queen(_, QueenEvent::Stopping { hive, worker, why }) => format!("stop worker {worker} on {hive}: {why}"),
        Event::Queen(_, event) => tell::queen(event).unwrap_or_else(|| event.name().to_owned()),
        _ => String::new(),
    }
}
