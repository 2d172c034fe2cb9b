//! Sends a command to a hive and prints the hive's events until the goal of the command is reached.

use std::time::Duration;

use rbee_nats::{Bus, EventReader, EventRecord, Subject};
use rbee_schema::{Event, HiveCommand, HiveName};
use tokio::time::{Instant, timeout_at};

use super::{
    goal::{Goal, Progress},
    patience::PATIENCE,
};
use crate::{Context, error::CliError, output::say};

/// Sends a command to a hive, and prints its events until the goal is reached.
///
/// # Errors
/// The goal cannot be reached any more, the hive sends no event for `--patience`, or the bus is away.
pub(crate) async fn follow_command(
    context: &Context,
    bus: &Bus,
    hive: &HiveName,
    command: &HiveCommand,
    goal: &Goal,
) -> Result<(), CliError> {
    // Subscribe before sending, so that no event is missed.
    let mut hive_events = EventReader::since(bus, &hive_subject(bus, hive), None).await?;
    let mut worker_events = EventReader::since(bus, &worker_subject(bus, hive, goal), None).await?;
    bus.command(hive, command).await?;
    let patience = context.patience(PATIENCE);
    let mut deadline = Instant::now() + patience;
    loop {
        let next = async {
            tokio::select! {
                record = hive_events.next() => record,
                record = worker_events.next() => record,
            }
        };
        let Ok(record) = timeout_at(deadline, next).await else { return Err(no_event(hive, patience)) };
        let Some(record) = record? else { return Err(no_event(hive, patience)) };
        match parse_event(bus, &record).map_or(Progress::Unrelated, |event| goal.assess(&event)) {
            Progress::Unrelated => continue,
            Progress::Step(message) => print_event(context, &record, &message),
            Progress::Reached(message) => {
                print_event(context, &record, &message);
                return Ok(());
            }
            Progress::Failed(message) => return Err(CliError::failed(message)),
        }
        deadline = Instant::now() + patience;
    }
}

fn hive_subject(bus: &Bus, hive: &HiveName) -> String {
    bus.subject(&Subject::HiveEvent(hive.clone(), "*".to_owned()))
}

fn worker_subject(bus: &Bus, hive: &HiveName, goal: &Goal) -> String {
    match goal {
        Goal::WorkerRemoved(worker) | Goal::WorkerStarted(worker) => {
            bus.subject(&Subject::WorkerEvent(hive.clone(), worker.clone(), "*".to_owned()))
        }
        Goal::HiveDrained | Goal::HiveResumed | Goal::HiveStopped => bus.namespace().worker_events_of(hive),
    }
}

fn no_event(hive: &HiveName, patience: Duration) -> CliError {
    CliError::unavailable(format!(
        "the command was sent to hive {hive}, and no event came for {patience:?} (--patience): `rbee hives` lists the \
         connected hives, `rbee events evt.hive.{hive}.> --since 5m` the recent events of this one"
    ))
}

/// The event in a record of the stream; none if this version does not know it.
pub(crate) fn parse_event(bus: &Bus, record: &EventRecord) -> Option<Event> {
    match bus.parse(&record.subject)? {
        Subject::QueenEvent(queen, _) => Some(Event::Queen(queen, serde_json::from_slice(&record.body).ok()?)),
        Subject::HiveEvent(hive, _) => Some(Event::Hive(hive, serde_json::from_slice(&record.body).ok()?)),
        Subject::WorkerEvent(hive, worker, _) => {
            Some(Event::Worker(hive, worker, serde_json::from_slice(&record.body).ok()?))
        }
        _ => None,
    }
}

/// Prints an event: its message, or its subject and body with `--json`.
pub(crate) fn print_event(context: &Context, record: &EventRecord, message: &str) {
    if context.json {
        let body: serde_json::Value = serde_json::from_slice(&record.body).unwrap_or_default();
        say!("{}", serde_json::json!({ "subject": record.subject, "body": body }));
    } else {
        say!("{message}");
    }
}
