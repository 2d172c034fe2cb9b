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

/// Checks what an event means: `done`, `progress`, `failed` or nothing, and its words.
fn check(awaited: &Awaited, event: Event, kind: &str, said: &str) {
    let (found, words) = match awaited.hear(&event) {
        News::Nothing => ("", String::new()),
        News::Progress(words) => ("progress", words),
        News::Done(words) => ("done", words),
        News::Failed(words) => ("failed", words),
    };
    assert_eq!(found, kind, "{awaited:?} {event:?}");
    assert!(words.contains(said), "{awaited:?} {event:?}: {words}");
}

#[test]
fn a_stop_ends_when_its_worker_is_gone() {
    let stop = Awaited::Removed(name("w"));
    check(&stop, of_worker("w", WorkerEvent::Draining { why: String::new() }), "progress", "w finishes its jobs");
    check(&stop, of_worker("w", removed()), "done", "w is gone");
    check(&stop, of_worker("v", removed()), "progress", "v is gone");
    check(&stop, of_hive(HiveEvent::Drained { left: 0 }), "", "");
    check(&stop, of_hive(HiveEvent::Stopped { killed: 0 }), "done", "one has stopped");
    check(&stop, refused(FailureCode::UnknownWorker), "failed", "no");
    check(&stop, refused(FailureCode::HiveDraining), "", "");
}

#[test]
fn a_drain_ends_when_no_worker_is_left() {
    let drain = Awaited::Drained;
    check(&drain, draining(2), "progress", "left: 2");
    check(&drain, of_worker("w", removed()), "progress", "w is gone");
    check(&drain, of_hive(HiveEvent::Drained { left: 1 }), "progress", "left: 1");
    check(&drain, of_hive(HiveEvent::Drained { left: 0 }), "done", "no workers left");
    check(&drain, draining(0), "done", "no workers left");
    check(&drain, of_hive(HiveEvent::Resumed {}), "failed", "somebody");
    check(&drain, refused(FailureCode::HiveDraining), "", "");
    check(&drain, of_hive(HiveEvent::Fenced { by: name("h") }), "failed", "runs on h");
}

#[test]
fn an_undone_drain_ends_when_the_hive_is_resumed() {
    check(&Awaited::Resumed, of_hive(HiveEvent::Resumed {}), "done", "again");
    check(&Awaited::Resumed, of_hive(HiveEvent::Stopped { killed: 0 }), "failed", "stopped");
}

#[test]
fn the_stop_of_a_hive_ends_when_it_has_stopped() {
    check(&Awaited::Stopped, draining(0), "progress", "left: 0");
    check(&Awaited::Stopped, of_hive(HiveEvent::Drained { left: 0 }), "progress", "left: 0");
    check(&Awaited::Stopped, of_hive(HiveEvent::Stopped { killed: 2 }), "done", "killed: 2");
}

#[test]
fn a_reset_ends_when_its_worker_is_started_or_cannot_be() {
    let reset = Awaited::Spawned(name("w"));
    check(&reset, of_worker("w", spawned()), "done", "process 7 on port 8080");
    check(&reset, of_worker("v", spawned()), "progress", "v");
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
