use rbee_schema::Failure;

use super::*;

fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a name")
}

fn of_hive(event: HiveEvent) -> Event {
    Event::Hive(name("one"), event)
}

fn of_worker(worker: &str, event: WorkerEvent) -> Event {
    Event::Worker(name("one"), name(worker), event)
}

fn removed() -> WorkerEvent {
    WorkerEvent::Removed { model: name("m"), why: String::new() }
}

fn failed() -> WorkerEvent {
    WorkerEvent::Failed { model: name("m"), failure: Failure::new(FailureCode::MemoryShort, "too little") }
}

fn spawned() -> WorkerEvent {
    WorkerEvent::Spawned { model: name("m"), epoch: 2, pid: 7, port: 8080 }
}

fn refused(code: FailureCode) -> Event {
    of_hive(HiveEvent::Refused { failure: Failure::new(code, "no") })
}

fn draining(workers: u32) -> Event {
    of_hive(HiveEvent::Draining { why: String::new(), workers })
}

/// Checks the effect of an event (`step`, `reached`, `failed`, or empty if unrelated) and a part of its message.
#[track_caller]
fn check(goal: &Goal, event: Event, expected: &str, part: &str) {
    let (found, message) = match goal.assess(&event) {
        Progress::Unrelated => ("", String::new()),
        Progress::Step(message) => ("step", message),
        Progress::Reached(message) => ("reached", message),
        Progress::Failed(message) => ("failed", message),
    };
    assert_eq!(found, expected, "{goal:?} {event:?}");
    assert!(message.contains(part), "{goal:?} {event:?}: {message}");
}

#[test]
fn a_stop_is_done_when_the_worker_is_removed() {
    let stop = Goal::WorkerRemoved(name("w"));
    check(&stop, of_worker("w", WorkerEvent::Draining { why: String::new() }), "step", "w finishes its jobs");
    check(&stop, of_worker("w", removed()), "reached", "w is removed");
    check(&stop, of_worker("v", removed()), "step", "v is removed");
    check(&stop, of_hive(HiveEvent::Drained { left: 0 }), "", "");
    check(&stop, of_hive(HiveEvent::Stopped { killed: 0 }), "reached", "one has stopped");
    check(&stop, refused(FailureCode::UnknownWorker), "failed", "no");
    check(&stop, refused(FailureCode::HiveDraining), "", "");
}

#[test]
fn a_drain_is_done_when_no_worker_is_left() {
    let drain = Goal::HiveDrained;
    check(&drain, draining(2), "step", "left: 2");
    check(&drain, of_worker("w", removed()), "step", "w is removed");
    check(&drain, of_hive(HiveEvent::Drained { left: 1 }), "step", "left: 1");
    check(&drain, of_hive(HiveEvent::Drained { left: 0 }), "reached", "no workers left");
    check(&drain, draining(0), "reached", "no workers left");
    check(&drain, of_hive(HiveEvent::Resumed {}), "failed", "undone");
    check(&drain, refused(FailureCode::HiveDraining), "", "");
    check(&drain, of_hive(HiveEvent::Fenced { by: name("h") }), "failed", "running on h");
}

#[test]
fn an_undone_drain_is_done_when_the_hive_is_resumed() {
    check(&Goal::HiveResumed, of_hive(HiveEvent::Resumed {}), "reached", "again");
    check(&Goal::HiveResumed, of_hive(HiveEvent::Stopped { killed: 0 }), "failed", "stopped");
}

#[test]
fn the_stop_of_a_hive_is_done_when_it_has_stopped() {
    check(&Goal::HiveStopped, draining(0), "step", "left: 0");
    check(&Goal::HiveStopped, of_hive(HiveEvent::Drained { left: 0 }), "step", "left: 0");
    check(&Goal::HiveStopped, of_hive(HiveEvent::Stopped { killed: 2 }), "reached", "killed: 2");
}

#[test]
fn a_reset_is_done_when_the_worker_starts_or_fails() {
    let reset = Goal::WorkerStarted(name("w"));
    check(&reset, of_worker("w", spawned()), "reached", "process 7 on port 8080");
    check(&reset, of_worker("v", spawned()), "step", "v");
    check(&reset, of_worker("w", failed()), "failed", "too little");
    check(
        &reset,
        of_worker("w", WorkerEvent::Loading { epoch: 2, percent: 1, done_bytes: 1, total_bytes: 2, memory: None }),
        "",
        "",
    );
    check(&reset, refused(FailureCode::UnknownWorker), "failed", "no");
    check(&reset, of_hive(HiveEvent::Stopped { killed: 0 }), "failed", "stopped");
}
