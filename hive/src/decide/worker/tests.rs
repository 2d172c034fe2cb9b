use proptest::prelude::*;
use rbee_schema::ModelReference;

use super::*;

fn spawn() -> (Worker, Vec<Effect>) {
    let spec = ModelSpec::new(ModelReference::Mock(String::new()));
    Worker::new("w".parse().expect("name"), "m".parse().expect("name"), spec)
}

/// Steps through `events` and returns the worker with the effects of the last one.
fn after(events: Vec<Event>) -> (Worker, Vec<Effect>) {
    let now = Instant::now();
    events.into_iter().fold(spawn(), |(worker, _), event| worker.step(event, now))
}

fn started() -> Event {
    Event::Started { pid: 42, port: 8080 }
}

fn exit(code: Option<i32>, signal: Option<i32>) -> Event {
    Event::Exited { code, signal, tail: vec!["last words".into()] }
}

fn stop() -> Event {
    Event::Stop { why: "idle".into(), drain: Duration::from_secs(30) }
}

fn job(ack: &str) -> JobInFlight {
    JobInFlight { tenant: "t".parse().expect("name"), job: "j".parse().expect("name"), ack: ack.into() }
}

fn beat(epoch: u64, jobs: Vec<JobInFlight>) -> Event {
    Event::Beat { epoch, jobs }
}

/// The kinds of effects, in order.
fn kinds(effects: &[Effect]) -> Vec<&'static str> {
    let kind = |effect: &Effect| match effect {
        Effect::Start => "start",
        Effect::Drain => "drain",
        Effect::Terminate => "terminate",
        Effect::Kill => "kill",
        Effect::GiveBack(_) => "give-back",
        Effect::ReleasePort { .. } => "release-port",
        Effect::Publish(event) => event.name(),
        Effect::Forget => "forget",
    };
    effects.iter().map(kind).collect()
}

fn check(events: Vec<Event>, phase: WorkerPhase, effects: &[&str]) {
    let shown = format!("{events:?}");
    let (worker, found) = after(events);
    assert_eq!((worker.phase(), kinds(&found).as_slice()), (phase, effects), "after {shown}");
}

#[test]
fn a_spawn_becomes_ready_by_what_the_worker_says() {
    assert_eq!(kinds(&spawn().1), ["start"]);
    check(vec![started()], WorkerPhase::Spawning, &["spawned"]);
    check(vec![started(), Event::Loading { epoch: 1 }], WorkerPhase::Loading, &[]);
    check(vec![started(), Event::Loading { epoch: 1 }, Event::Ready { epoch: 1 }], WorkerPhase::Ready, &[]);
    check(vec![started(), Event::Ready { epoch: 1 }], WorkerPhase::Ready, &[]);
}

#[test]
fn a_crash_gives_the_jobs_back_before_anything_else_then_the_port_then_restarts() {
    let ready = [started(), Event::Ready { epoch: 1 }];
    let crash = [beat(1, vec![job("a")]), exit(None, Some(9))];
    let events = ready.into_iter().chain(crash).collect();
    check(events, WorkerPhase::Backoff, &["give-back", "kill", "release-port", "exited", "restarting"]);
    let events = vec![started(), exit(None, Some(9)), Event::DeadlinePassed];
    let (worker, _) = after(events.clone());
    assert_eq!(worker.epoch, 2);
    check(events, WorkerPhase::Requested, &["start"]);
}

#[test]
fn an_exit_for_bad_data_is_final() {
    check(vec![started(), exit(Some(65), None)], WorkerPhase::Failed, &["kill", "release-port", "exited", "failed"]);
    check(vec![started(), exit(Some(65), None), stop()], WorkerPhase::Stopping, &["removed", "forget"]);
}

#[test]
fn a_start_that_is_refused_is_a_typed_failure() {
    let failure = Failure::new(FailureCode::PortsExhausted, "none");
    let (worker, effects) = after(vec![Event::NotStarted(failure.clone())]);
    assert_eq!(kinds(&effects), ["failed"]);
    assert_eq!(worker.record().failure, Some(failure));
}

#[test]
fn a_stop_drains_then_terminates_then_kills() {
    let ready = || vec![started(), Event::Ready { epoch: 1 }, stop()];
    check(ready(), WorkerPhase::Draining, &["drain", "draining"]);
    let with = |more: Vec<Event>| ready().into_iter().chain(more).collect::<Vec<_>>();
    check(
        with(vec![exit(Some(0), None)]),
        WorkerPhase::Stopping,
        &["kill", "release-port", "exited", "removed", "forget"],
    );
    check(with(vec![Event::DeadlinePassed]), WorkerPhase::Stopping, &["terminate", "stopping"]);
    check(with(vec![Event::DeadlinePassed, Event::DeadlinePassed]), WorkerPhase::Stopping, &["kill", "stopping"]);
}

#[test]
fn a_stop_while_it_starts_ends_it_as_soon_as_it_runs() {
    check(vec![stop(), started()], WorkerPhase::Stopping, &["spawned", "terminate", "stopping"]);
    let refused = Event::NotStarted(Failure::new(FailureCode::SpawnFailed, "x"));
    check(vec![stop(), refused], WorkerPhase::Stopping, &["removed", "forget"]);
}

#[test]
fn a_load_that_stalls_is_killed_as_not_ready_in_time_and_restarted() {
    let stalled = vec![started(), Event::Loading { epoch: 1 }, Event::DeadlinePassed];
    check(stalled.clone(), WorkerPhase::Stopping, &["kill", "stopping"]);
    let (_, effects) = after([stalled, vec![exit(None, Some(9))]].concat());
    assert!(
        effects.iter().any(|effect| matches!(
            effect,
            Effect::Publish(WorkerEvent::Exited { class: ExitClass::ReadyTimeout, .. })
        )),
        "{effects:?}"
    );
}

#[test]
fn a_word_of_another_run_is_told_and_not_obeyed() {
    check(vec![started(), Event::Ready { epoch: 7 }], WorkerPhase::Spawning, &["ignored"]);
    check(vec![started(), Event::Ready { epoch: 1 }, Event::Loading { epoch: 1 }], WorkerPhase::Ready, &["ignored"]);
}

#[test]
fn a_job_taken_in_the_last_moment_of_a_run_is_given_back_once() {
    let crash = || vec![started(), Event::Ready { epoch: 1 }, beat(1, vec![job("a")]), exit(None, Some(9))];
    let with = |more: Vec<Event>| crash().into_iter().chain(more).collect::<Vec<_>>();
    check(with(vec![beat(1, vec![job("a")])]), WorkerPhase::Backoff, &[]);
    check(with(vec![beat(1, vec![job("a"), job("b")])]), WorkerPhase::Backoff, &["give-back"]);
    check(with(vec![beat(1, vec![job("b")]), beat(1, vec![job("b")])]), WorkerPhase::Backoff, &[]);
}

#[test]
fn a_long_run_forgives_earlier_exits() {
    let start = Instant::now();
    let mut worker = spawn().0;
    for event in [started(), exit(None, Some(6)), Event::DeadlinePassed, started(), Event::Ready { epoch: 2 }] {
        worker = worker.step(event, start).0;
    }
    let (short, _) = worker.clone().step(exit(None, Some(6)), start);
    let (long, _) = worker.step(exit(None, Some(6)), start + STABLE_RUN);
    assert_eq!((short.exits, long.exits), (2, 1));
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(started()),
        Just(Event::NotStarted(Failure::new(FailureCode::SpawnFailed, "x"))),
        (1u64..4).prop_map(|epoch| Event::Loading { epoch }),
        (1u64..4).prop_map(|epoch| Event::Ready { epoch }),
        (1u64..4, "[a-c]").prop_map(|(epoch, ack)| beat(epoch, vec![job(&ack)])),
        Just(stop()),
        prop_oneof![Just(0), Just(1), Just(65), Just(78)].prop_map(|code| exit(Some(code), None)),
        Just(exit(None, Some(9))),
        Just(Event::DeadlinePassed),
        Just(Event::BusBack),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_a_port_is_given_back_once_and_nothing_comes_after_the_end(
        events in prop::collection::vec(any_event(), 0..40)
    ) {
        let now = Instant::now();
        let mut worker = spawn().0;
        let (mut held, mut forgotten) = (0i32, false);
        for event in events {
            let had_process = worker.pid().is_some();
            let starts = matches!(event, Event::Started { .. }) && worker.state == State::Starting;
            let effects;
            (worker, effects) = worker.step(event, now);
            prop_assert!(!forgotten || effects.is_empty(), "{:?} after the end", effects);
            held += i32::from(starts);
            held -= effects.iter().filter(|e| matches!(e, Effect::ReleasePort { .. })).count() as i32;
            prop_assert_eq!(held, i32::from(worker.pid().is_some()), "a port is held while there is a process");
            let signals = effects.iter().any(|e| matches!(e, Effect::Terminate | Effect::Drain));
            prop_assert!(!signals || had_process || starts, "nobody is there to be signalled");
            let waits_for_itself = matches!(worker.state, State::Ready { .. } | State::Stopping { kill_at: None, .. });
            prop_assert!(worker.pid().is_none() || waits_for_itself || worker.deadline().is_some());
            forgotten |= effects.contains(&Effect::Forget);
        }
    }
}
