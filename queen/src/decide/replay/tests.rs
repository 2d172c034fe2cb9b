//! Replays of short histories.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rbee_schema::{
    Event, FinishReason, HiveEvent, JobClass, JobEvent, ModelEvent, ModelSpec, QueenEvent, Replicas, SubmittedJob,
    Usage, WorkerEvent,
};

use super::*;
use crate::decide::{
    fixture::{name, spec},
    timers::Timers,
};

fn at(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis)
}

fn recorded(millis: u64, event: Event) -> Recorded {
    Recorded { at: at(millis), queued: None, event }
}

fn joined(hive: &str) -> Event {
    let (version, host) = ("0".to_owned(), name("host"));
    Event::Hive(name(hive), HiveEvent::Joined { epoch: 1, version, host, first_port: 1, last_port: 9 })
}

fn declared() -> Event {
    let spec = ModelSpec { replicas: Replicas { min: 0, max: 1 }, idle_timeout: Duration::from_secs(60), ..spec() };
    Event::Model(name("m"), ModelEvent::Declared { spec: Box::new(spec), before: None })
}

fn placed(hive: &str) -> Event {
    let why = "it is free".to_owned();
    Event::Queen(
        name("q"),
        QueenEvent::Placed { model: name("m"), hive: name(hive), worker: name("w"), why, expected_ms: None },
    )
}

fn stopping() -> Event {
    Event::Queen(name("q"), QueenEvent::Stopping { hive: name("a"), worker: name("w"), why: "idle".to_owned() })
}

fn worker(event: WorkerEvent) -> Event {
    Event::Worker(name("a"), name("w"), event)
}

fn job(event: JobEvent) -> Event {
    Event::Job(name("t"), name("j"), event)
}

/// A model without workers is declared, a job comes, a worker is placed on hive `a`, answers it, and is stopped when it was idle
/// for its minute.
fn history() -> Vec<Recorded> {
    let submitted = SubmittedJob { model: name("m"), class: JobClass::Interactive, bytes: 1, queued: String::new() };
    let started =
        JobEvent::Started { hive: name("a"), worker: name("w"), attempt: 1, index: 0, submitted: Some(submitted) };
    let finished = JobEvent::Finished { finish_reason: FinishReason::Stop, usage: Usage::new(1, 1), duration_ms: 1 };
    vec![
        recorded(0, joined("a")),
        recorded(100, Event::Queen(name("q"), QueenEvent::Elected { term: 1, after: None })),
        recorded(1_000, declared()),
        recorded(10_010, placed("a")),
        recorded(10_100, worker(WorkerEvent::Spawned { model: name("m"), epoch: 1, pid: 1, port: 1 })),
        recorded(12_000, worker(WorkerEvent::Ready { model: name("m"), epoch: 1, slots: 2, context: 1, load_ms: 1 })),
        Recorded { queued: Some(at(10_000)), ..recorded(12_010, job(started)) },
        recorded(20_000, job(finished)),
        recorded(80_700, stopping()),
        recorded(80_800, worker(WorkerEvent::Draining { why: "idle".to_owned() })),
        recorded(80_900, worker(WorkerEvent::Removed { model: name("m"), why: "idle".to_owned() })),
    ]
}

fn conditions() -> Conditions {
    Conditions { timers: Timers::default(), start: Instant::now(), declared: BTreeMap::new(), from: None }
}

fn without(event: fn(&Event) -> bool) -> Vec<Recorded> {
    history().into_iter().filter(|recorded| !event(&recorded.event)).collect()
}

fn is_placed(event: &Event) -> bool {
    matches!(event, Event::Queen(_, QueenEvent::Placed { .. }))
}

#[test]
fn same_decisions_are_made_again() {
    let replayed = replay(&history(), conditions());
    assert_eq!((&replayed.difference, replayed.equal), (&None, 2), "{replayed:#?}");
    let decided: Vec<_> = replayed.steps.iter().filter(|step| !step.decisions.is_empty()).collect();
    let [spawn, stop] = &decided[..] else { panic!("{decided:#?}") };
    assert!(spawn.input.contains("job j of tenant t is queued") && spawn.at == at(10_000), "{spawn:#?}");
    assert!(spawn.decisions[0].text.starts_with("start a worker for m on a"), "{spawn:#?}");
    assert_eq!((stop.input.as_str(), stop.at), ("time has passed", at(80_000)));
    assert_eq!(stop.decisions[0].recorded.as_deref(), Some("stop worker w on a: idle"));
    assert!(replayed.unknown.is_empty(), "{replayed:#?}");
}

#[test]
fn decision_that_was_not_recorded_is_a_difference() {
    let difference = replay(&without(is_placed), conditions()).difference.expect("no worker was placed");
    assert!(difference.decided.is_some_and(|decided| decided.starts_with("start a worker for m on a")));
    assert_eq!((difference.recorded, difference.at), (None, at(10_000)));
}

#[test]
fn recorded_decision_that_is_not_made_is_a_difference() {
    let mut events = history();
    events.insert(7, recorded(15_000, stopping()));
    let difference = replay(&events, conditions()).difference.expect("nothing asks for that stop");
    assert_eq!((difference.decided, difference.at), (None, at(15_000)));
    assert_eq!(difference.recorded.as_deref(), Some("stop worker w on a: idle"));
}

#[test]
fn worker_on_another_hive_is_a_difference() {
    let mut events = without(is_placed);
    events.insert(3, recorded(10_010, placed("b")));
    let difference = replay(&events, conditions()).difference.expect("hive `b` is not known");
    assert!(difference.decided.is_some_and(|decided| decided.contains("on a")));
    assert!(difference.recorded.is_some_and(|recorded| recorded.contains("on b")));
}

#[test]
fn model_without_a_known_declaration_is_left_out_or_assumed() {
    let events = without(|event| matches!(event, Event::Model(..)));
    let replayed = replay(&events, conditions());
    assert!(replayed.unknown.iter().any(|unknown| unknown.contains("decisions about the model are left out")));
    // A stop names no model, and is left to differ: its worker is unknown.
    assert!(replayed.steps.iter().all(|step| step.decisions.is_empty()), "{replayed:#?}");
    let Event::Model(_, ModelEvent::Declared { spec, .. }) = declared() else { panic!("a declaration") };
    let declared = BTreeMap::from([(name("m"), *spec)]);
    let replayed = replay(&events, Conditions { declared, ..conditions() });
    assert_eq!((&replayed.difference, replayed.equal), (&None, 2), "{replayed:#?}");
    assert!(replayed.unknown.iter().any(|unknown| unknown.contains("that of today is used")));
}

#[test]
fn decisions_before_the_comparison_are_followed() {
    let replayed = replay(&history(), Conditions { from: Some(at(60_000)), ..conditions() });
    assert_eq!((&replayed.difference, replayed.equal), (&None, 1), "{replayed:#?}");
}

#[test]
fn jobs_that_were_queued_in_silence_are_replayed_when_a_hive_is_lost() {
    let mut events = history();
    let queen = |event| Event::Queen(name("q"), event);
    let why = "no heartbeat for 3.0s".to_owned();
    events.truncate(7);
    events.push(recorded(17_000, queen(QueenEvent::HiveSuspected { hive: name("a"), why })));
    events
        .push(recorded(24_000, queen(QueenEvent::HiveLost { hive: name("a"), workers: 1, heartbeat_age_ms: 10_000 })));
    let unplaceable = QueenEvent::Unplaceable {
        model: name("m"),
        failure: rbee_schema::Failure::new(rbee_schema::FailureCode::NoCapacity, "no hive is left"),
    };
    events.push(recorded(24_010, queen(unplaceable)));
    let replayed = replay(&events, conditions());
    assert_eq!((&replayed.difference, replayed.equal), (&None, 2), "{replayed:#?}");
}
