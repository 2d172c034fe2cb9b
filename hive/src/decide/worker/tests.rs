use std::{fmt::Write as _, time::Duration};

use proptest::prelude::*;
use rbee_schema::{ExitClass, Failure, FailureCode, JobInFlight, ModelReference, StopMode};

use super::*;

fn rules() -> Rules {
    Rules::default()
}

fn spawn() -> (Worker, Vec<Effect>) {
    let spec = ModelSpec::new(ModelReference::Mock(String::new()));
    Worker::new("w".parse().expect("name"), "m".parse().expect("name"), spec)
}

/// Steps through `events`, each the given number of seconds after the one before. Returns the effects of the last one.
fn timed(events: Vec<(u64, Event)>) -> (Worker, Vec<Effect>) {
    let mut now = Instant::now();
    events.into_iter().fold(spawn(), |(worker, _), (after, event)| {
        now += Duration::from_secs(after);
        worker.step(event, now, &rules())
    })
}

fn after(events: Vec<Event>) -> (Worker, Vec<Effect>) {
    timed(events.into_iter().map(|event| (0, event)).collect())
}

/// Steps through `events`. Returns the effects of all of them, in order.
fn all_effects(events: Vec<Event>) -> (Worker, Vec<Effect>) {
    let now = Instant::now();
    events.into_iter().fold((spawn().0, Vec::new()), |(worker, mut effects), event| {
        let (worker, more) = worker.step(event, now, &rules());
        effects.extend(more);
        (worker, effects)
    })
}

fn started() -> Event {
    Event::Started { pid: 42, port: 8080 }
}

fn loading(epoch: u64, done_bytes: u64) -> Event {
    Event::Loading { epoch, done_bytes, total_bytes: 1000 }
}

fn ready() -> Vec<Event> {
    vec![started(), Event::Ready { epoch: 1 }]
}

fn exit(code: Option<i32>, signal: Option<i32>) -> Event {
    Event::Exited(ProcessExit { code, signal, tail: vec!["last line".into()], draw: 0.5, out_of_memory: false })
}

fn stop(mode: StopMode) -> Event {
    Event::Stop { why: "idle".into(), mode }
}

fn job(ack: &str) -> JobInFlight {
    JobInFlight {
        tenant: "t".parse().expect("name"),
        job: "j".parse().expect("name"),
        ack: ack.into(),
        waits: false,
        redelivery_ms: Some(30_000),
    }
}

fn waiting(ack: &str) -> JobInFlight {
    JobInFlight { waits: true, ..job(ack) }
}

/// The return of jobs among the effects.
fn returns(effects: &[Effect]) -> Option<Returns> {
    effects.iter().find_map(|effect| match effect {
        Effect::ReturnJobs(returns) => Some(returns.clone()),
        _ => None,
    })
}

/// Acknowledgement subjects of the jobs that the effects return.
fn returned(effects: &[Effect]) -> Vec<String> {
    returns(effects).map_or(Vec::new(), |returns| returns.jobs.into_iter().map(|job| job.ack).collect())
}

fn heartbeat(epoch: u64, jobs: Vec<JobInFlight>, steps: u64) -> Event {
    Event::Heartbeat { epoch, jobs, steps, blocked: 0 }
}

fn health(well: bool) -> Event {
    Event::Health { epoch: 1, healthy: well }
}

/// Kinds of the effects, in order.
fn kinds(effects: &[Effect]) -> Vec<&'static str> {
    let kind = |effect: &Effect| match effect {
        Effect::Start => "start",
        Effect::Drain => "drain",
        Effect::Terminate => "terminate",
        Effect::Kill => "kill",
        Effect::ReturnJobs(_) => "return-jobs",
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

fn check_timed(events: Vec<(u64, Event)>, phase: WorkerPhase, effects: &[&str]) {
    let shown = format!("{events:?}");
    let (worker, found) = timed(events);
    assert_eq!((worker.phase(), kinds(&found).as_slice()), (phase, effects), "after {shown}");
}

fn with(first: Vec<Event>, more: Vec<Event>) -> Vec<Event> {
    first.into_iter().chain(more).collect()
}

fn at(first: Vec<Event>, more: Vec<(u64, Event)>) -> Vec<(u64, Event)> {
    first.into_iter().map(|event| (0, event)).chain(more).collect()
}

/// The reason in the first effect that carries one.
fn why(effects: &[Effect]) -> String {
    let why = effects.iter().find_map(|effect| match effect {
        Effect::Publish(WorkerEvent::Stopping { why } | WorkerEvent::Suspect { why, .. }) => Some(why.clone()),
        Effect::Publish(WorkerEvent::Exited { why, .. }) => Some(why.clone()),
        _ => None,
    });
    why.unwrap_or_default()
}

fn class(effects: &[Effect]) -> Option<ExitClass> {
    effects.iter().find_map(|effect| match effect {
        Effect::Publish(WorkerEvent::Exited { class, .. }) => Some(*class),
        _ => None,
    })
}

#[test]
fn spawned_worker_becomes_ready_by_its_own_messages() {
    assert_eq!(kinds(&spawn().1), ["start"]);
    check(vec![started()], WorkerPhase::Spawning, &["spawned"]);
    check(vec![started(), loading(1, 0)], WorkerPhase::Loading, &[]);
    check(vec![started(), loading(1, 0), Event::Ready { epoch: 1 }], WorkerPhase::Ready, &[]);
    check(ready(), WorkerPhase::Ready, &[]);
    check(vec![started(), heartbeat(1, vec![], 0)], WorkerPhase::Ready, &[]);
}

#[test]
fn messages_that_overtake_the_notice_of_the_start_count() {
    let early = vec![loading(1, 0), Event::Ready { epoch: 1 }];
    check(early.clone(), WorkerPhase::Requested, &[]);
    check(with(early, vec![started()]), WorkerPhase::Ready, &["spawned"]);
    let (_, effects) = after(vec![heartbeat(1, vec![job("a")], 0), started(), exit(None, Some(9))]);
    assert_eq!(returned(&effects), ["a"], "a heartbeat before the notice counts too");
}

#[test]
fn crash_returns_jobs_first_then_releases_the_port_then_restarts() {
    let crash = vec![heartbeat(1, vec![job("a")], 0), exit(None, Some(9))];
    let events = with(ready(), crash);
    check(events, WorkerPhase::Backoff, &["return-jobs", "kill", "release-port", "exited", "restarting"]);
    let events = vec![started(), exit(None, Some(9)), Event::DeadlinePassed];
    assert_eq!(after(events.clone()).0.epoch, 2);
    check(events, WorkerPhase::Requested, &["start"]);
}

#[test]
fn exit_for_bad_data_is_final_until_a_reset() {
    let bad = vec![started(), exit(Some(65), None)];
    check(bad.clone(), WorkerPhase::Failed, &["kill", "release-port", "exited", "failed"]);
    check(with(bad.clone(), vec![Event::Reset]), WorkerPhase::Requested, &["start"]);
    check(with(bad, vec![stop(StopMode::Drain)]), WorkerPhase::Stopping, &["removed", "forget"]);
}

#[test]
fn refused_start_is_a_typed_failure() {
    let failure = Failure::new(FailureCode::PortsExhausted, "none");
    let (worker, effects) = after(vec![Event::NotStarted(failure.clone())]);
    assert_eq!(kinds(&effects), ["failed"]);
    assert_eq!(worker.record().failure, Some(failure));
}

#[test]
fn stop_drains_then_terminates_then_kills_then_reports() {
    let draining = || with(ready(), vec![stop(StopMode::Drain)]);
    check(draining(), WorkerPhase::Draining, &["drain", "draining"]);
    let ended = ["kill", "release-port", "exited", "removed", "forget"];
    check(with(draining(), vec![exit(Some(0), None)]), WorkerPhase::Stopping, &ended);
    let passed = |times| with(draining(), vec![Event::DeadlinePassed; times]);
    check(passed(1), WorkerPhase::Stopping, &["terminate", "stopping"]);
    check(passed(2), WorkerPhase::Stopping, &["kill", "stopping"]);
    check(passed(3), WorkerPhase::Stopping, &["kill", "unkillable"]);
    check(passed(9), WorkerPhase::Stopping, &["kill", "unkillable"]);
    check(with(passed(9), vec![exit(None, Some(9))]), WorkerPhase::Stopping, &ended);
    check(with(ready(), vec![stop(StopMode::Terminate)]), WorkerPhase::Stopping, &["terminate", "stopping"]);
    check(with(draining(), vec![stop(StopMode::Terminate)]), WorkerPhase::Stopping, &["terminate", "stopping"]);
    check(with(draining(), vec![stop(StopMode::Kill)]), WorkerPhase::Stopping, &["kill", "stopping"]);
    check(with(passed(1), vec![stop(StopMode::Kill)]), WorkerPhase::Stopping, &["kill", "stopping"]);
}

#[test]
fn stop_during_a_start_terminates_the_process_once_it_runs() {
    let stopped = stop(StopMode::Drain);
    check(vec![stopped.clone(), started()], WorkerPhase::Stopping, &["spawned", "terminate", "stopping"]);
    let refused = Event::NotStarted(Failure::new(FailureCode::SpawnFailed, "x"));
    check(vec![stopped, refused], WorkerPhase::Stopping, &["removed", "forget"]);
}

#[test]
fn load_is_killed_when_it_stalls_or_takes_too_long() {
    let moving = |seconds: u64| (0..seconds / 20).map(|step| (20, loading(1, step))).collect::<Vec<_>>();
    let passed = || (0, Event::DeadlinePassed);
    // With progress every 20 s, the next deadline is that of the whole load (60 s) and not that of a stall (30 s).
    let begun = Instant::now();
    let (worker, _) = timed(at(vec![started()], moving(40)));
    let deadline = worker.deadline(&rules().timers).expect("a load has a deadline");
    assert!(deadline >= begun + Duration::from_secs(60), "{:?}", deadline - begun);
    let stalled = with(vec![started(), loading(1, 1)], vec![]);
    let (_, effects) = timed(at(stalled.clone(), vec![(30, Event::DeadlinePassed)]));
    assert!(why(&effects).contains("no progress of its load for 30s, 1 of 1000 bytes"), "{effects:?}");
    let events = at(stalled, vec![(30, Event::DeadlinePassed), (0, exit(None, Some(9)))]);
    let (_, effects) = timed(events);
    assert_eq!(class(&effects), Some(ExitClass::ReadyTimeout));
    let (_, effects) = timed(at(vec![started()], moving(60).into_iter().chain([passed()]).collect()));
    assert!(why(&effects).contains("not ready after 60s"), "{effects:?}");
    // All bytes are read. What follows reports no progress, so only the limit of the whole load counts.
    let (worker, _) = timed(at(vec![started(), loading(1, 1000)], vec![]));
    let limit = worker.deadline(&rules().timers).expect("a load has a deadline");
    assert!(limit > Instant::now() + Duration::from_secs(50));
}

#[test]
fn worker_without_heartbeats_is_suspect_then_killed_unless_one_comes() {
    let unresponsive = |seconds| at(ready(), vec![(3, Event::DeadlinePassed), (seconds, Event::DeadlinePassed)]);
    check_timed(unresponsive(0)[..3].to_vec(), WorkerPhase::Suspect, &["suspect"]);
    check_timed(unresponsive(6), WorkerPhase::Suspect, &[]);
    check_timed(unresponsive(7), WorkerPhase::Stopping, &["kill", "stopping"]);
    let killed = unresponsive(7).into_iter().chain([(0, exit(None, Some(9)))]).collect();
    assert_eq!(class(&timed(killed).1), Some(ExitClass::Unresponsive));
    let recovered = unresponsive(5).into_iter().chain([(0, heartbeat(1, vec![], 0))]).collect();
    check_timed(recovered, WorkerPhase::Ready, &["recovered"]);
    let late_machine = rules().timers.stretched(6);
    let (worker, _) = after(ready());
    let deadline = worker.deadline(&late_machine).expect("a ready worker has a deadline");
    assert!(deadline > Instant::now() + Duration::from_secs(15), "an overloaded machine waits longer");
}

#[test]
fn frozen_process_is_suspect_at_once_and_killed_without_a_heartbeat() {
    check(with(ready(), vec![Event::Frozen]), WorkerPhase::Suspect, &["suspect"]);
    check(with(ready(), vec![Event::Frozen, Event::Frozen]), WorkerPhase::Suspect, &[]);
    let frozen = at(ready(), vec![(0, Event::Frozen), (10, Event::DeadlinePassed)]);
    check_timed(frozen, WorkerPhase::Stopping, &["kill", "stopping"]);
}

#[test]
fn worker_with_jobs_and_without_steps_is_hung() {
    let beats = |jobs: Vec<JobInFlight>, steps: fn(u64) -> u64| {
        let beats = (1..=31).map(|second| (1, heartbeat(1, jobs.clone(), steps(second))));
        timed(at(ready(), beats.chain([(0, Event::DeadlinePassed)]).collect()))
    };
    let (hung, effects) = beats(vec![job("a")], |_| 7);
    assert_eq!((hung.phase(), kinds(&effects).as_slice()), (WorkerPhase::Stopping, &["kill", "stopping"][..]));
    assert!(why(&effects).contains("1 jobs and no step"), "{effects:?}");
    assert_eq!(beats(vec![job("a")], |second| second).0.phase(), WorkerPhase::Ready);
    assert_eq!(beats(vec![], |_| 7).0.phase(), WorkerPhase::Ready);
}

#[test]
fn worker_whose_jobs_the_bus_blocks_is_not_hung() {
    let blocked = |jobs: usize, blocked| {
        let jobs: Vec<JobInFlight> = (0..jobs).map(|index| job(&index.to_string())).collect();
        let beat = |_| (1, Event::Heartbeat { epoch: 1, jobs: jobs.clone(), steps: 7, blocked });
        timed(at(ready(), (1..=31).map(beat).chain([(0, Event::DeadlinePassed)]).collect())).0.phase()
    };
    assert_eq!(blocked(2, 2), WorkerPhase::Ready);
    assert_eq!(blocked(2, 1), WorkerPhase::Stopping, "the other job makes no progress either");
}

#[test]
fn job_that_waits_for_a_blocked_one_does_not_make_its_worker_hung() {
    let after = |blocked: u32| {
        let jobs = vec![job("alone"), JobInFlight { waits: true, ..job("next") }];
        let beat = |_| (1, Event::Heartbeat { epoch: 1, jobs: jobs.clone(), steps: 7, blocked });
        timed(at(ready(), (1..=31).map(beat).chain([(0, Event::DeadlinePassed)]).collect())).0.phase()
    };
    assert_eq!(after(1), WorkerPhase::Ready, "its job would be blamed for an outage of the server");
    assert_eq!(after(0), WorkerPhase::Stopping);
}

#[test]
fn three_failed_health_checks_in_a_row_kill_a_worker() {
    check(with(ready(), vec![health(false); 2]), WorkerPhase::Ready, &[]);
    check(with(ready(), vec![health(false); 3]), WorkerPhase::Stopping, &["kill", "stopping"]);
    let interrupted = vec![health(false), health(false), health(true), health(false), health(false)];
    check(with(ready(), interrupted), WorkerPhase::Ready, &[]);
    let of_another_run = Event::Health { epoch: 2, healthy: false };
    check(with(ready(), vec![of_another_run; 9]), WorkerPhase::Ready, &[]);
}

#[test]
fn timeouts_start_again_after_an_observation_gap() {
    for events in [vec![started()], vec![started(), loading(1, 1)], ready(), with(ready(), vec![Event::Frozen])] {
        let (worker, _) = timed(at(events.clone(), vec![(100, Event::ObservationGap)]));
        let deadline = worker.deadline(&rules().timers).expect("every process has a deadline");
        assert!(deadline >= Instant::now() + Duration::from_secs(102), "{events:?}: its time starts again");
    }
}

#[test]
fn out_of_memory_exit_is_reported_as_oom() {
    let ended = ProcessExit { signal: Some(9), out_of_memory: true, ..ProcessExit::default() };
    let (_, effects) = after(with(ready(), vec![Event::Exited(ended)]));
    assert_eq!(class(&effects), Some(ExitClass::Oom));
    assert!(why(&effects).starts_with("out of memory"), "{effects:?}");
}

#[test]
fn five_crashes_are_a_loop_that_is_retried_later_or_by_a_reset() {
    let crash = |epoch| vec![started(), Event::Ready { epoch }, exit(None, Some(6)), Event::DeadlinePassed];
    let mut looping: Vec<Event> = (1..=5).flat_map(crash).collect();
    looping.pop();
    check(looping.clone(), WorkerPhase::CrashLoop, &["kill", "release-port", "exited", "crash-looped"]);
    let failure = after(looping.clone()).0.record().failure.expect("it stands in the record");
    assert_eq!(failure.code, FailureCode::CrashLoop);
    for next in [Event::DeadlinePassed, Event::Reset] {
        check(with(looping.clone(), vec![next]), WorkerPhase::Requested, &["start"]);
    }
    check(with(looping, vec![stop(StopMode::Drain)]), WorkerPhase::Stopping, &["removed", "forget"]);
}

#[test]
fn messages_of_another_run_or_of_another_state_are_ignored() {
    check(with(ready(), vec![Event::Ready { epoch: 2 }]), WorkerPhase::Ready, &["ignored"]);
    check(with(ready(), vec![loading(2, 0)]), WorkerPhase::Ready, &["ignored"]);
    check(with(ready(), vec![loading(1, 0), Event::Ready { epoch: 1 }]), WorkerPhase::Ready, &[]);
    check(with(ready(), vec![started()]), WorkerPhase::Ready, &["ignored"]);
    check(vec![exit(Some(0), None)], WorkerPhase::Requested, &["ignored"]);
}

#[test]
fn jobs_of_a_late_heartbeat_are_returned_once() {
    let dead = with(ready(), vec![heartbeat(1, vec![job("a")], 0), exit(None, Some(9))]);
    check(with(dead.clone(), vec![heartbeat(1, vec![job("a")], 0)]), WorkerPhase::Backoff, &[]);
    let late = with(dead, vec![heartbeat(1, vec![job("a"), job("b")], 0)]);
    check(late.clone(), WorkerPhase::Backoff, &["return-jobs"]);
    check(with(late.clone(), vec![heartbeat(1, vec![job("b")], 0)]), WorkerPhase::Backoff, &[]);
    let again = vec![Event::DeadlinePassed, started(), heartbeat(2, vec![job("c")], 0), exit(None, Some(9))];
    let second = with(late, again);
    check(with(second.clone(), vec![heartbeat(1, vec![job("a")], 0)]), WorkerPhase::Backoff, &[]);
    check(with(second, vec![heartbeat(2, vec![job("d")], 0)]), WorkerPhase::Backoff, &["return-jobs"]);
}

#[test]
fn jobs_return_without_blame_unless_one_can_have_caused_the_end() {
    let ended = |jobs: Vec<JobInFlight>, exit| returns(&after(with(ready(), vec![heartbeat(1, jobs, 0), exit])).1);
    let running = |jobs, exit| ended(jobs, exit).and_then(|returns| returns.blame).map(|blame| blame.running);
    assert_eq!(running(vec![job("a"), job("b")], exit(None, Some(6))), Some(2));
    assert_eq!(running(vec![job("a"), waiting("b")], exit(None, Some(6))), Some(1), "it ran alone");
    assert_eq!(running(vec![job("a"), job("b")], exit(None, Some(9))), None);
    assert_eq!(running(vec![waiting("a")], exit(None, Some(6))), None);
    let hung = at(ready(), vec![(0, heartbeat(1, vec![job("a")], 1)), (29, heartbeat(1, vec![job("a")], 1))]);
    let hung = hung.into_iter().chain([(1, Event::DeadlinePassed), (0, exit(None, Some(9)))]).collect();
    assert!(returns(&timed(hung).1).is_some_and(|returns| returns.blame.is_some()), "a hang is blamed");
}

#[test]
fn job_of_a_late_heartbeat_shares_the_blame() {
    let crash = with(ready(), vec![exit(None, Some(6)), heartbeat(1, vec![job("a")], 0)]);
    let returns = returns(&after(crash).1).expect("its job returns");
    assert_eq!(returns.blame.map(|blame| blame.running), Some(1));
}

#[test]
fn jobs_are_returned_until_the_server_may_have_delivered_them_again() {
    let now = Instant::now();
    let mut worker = ready().into_iter().fold(spawn().0, |worker, event| worker.step(event, now, &rules()).0);
    let heard = now + Duration::from_secs(1);
    worker = worker.step(heartbeat(1, vec![job("a")], 0), heard, &rules()).0;
    let (_, effects) = worker.step(exit(None, Some(9)), heard + Duration::from_secs(9), &rules());
    let until = returns(&effects).expect("its job returns").until;
    assert_eq!(until, Some(heard + Duration::from_secs(20)), "two thirds of 30 s after the heartbeat");
}

#[test]
fn two_poisoned_jobs_one_after_another_are_no_crash_loop() {
    let crash = |epoch: u64| {
        let ack = epoch.to_string();
        vec![started(), heartbeat(epoch, vec![job(&ack)], 0), exit(None, Some(6)), Event::DeadlinePassed]
    };
    let poisoned: Vec<Event> = (1..=4).flat_map(crash).collect();
    assert_eq!(after(poisoned.clone()).0.record().exits, 0, "they do not count");
    let answered = vec![started(), heartbeat(5, vec![job("ok")], 1), heartbeat(5, vec![], 2)];
    let more = (6..=9).flat_map(crash);
    let answered = with(with(poisoned.clone(), answered), vec![exit(Some(0), None), Event::DeadlinePassed]);
    let (worker, _) = after(with(answered, more.collect()));
    assert_eq!(worker.record().exits, 1, "only the exit that no job caused counts");
    let (worker, _) = after(with(poisoned, (5..=9).flat_map(crash).take(19).collect()));
    assert_eq!(worker.phase(), WorkerPhase::CrashLoop, "a worker that no job survives");
}

fn recorded(phase: WorkerPhase, stop_reason: Option<&str>) -> Recorded {
    let (worker, _) = after(ready());
    let failure = Failure::new(FailureCode::ModelInvalid, "truncated");
    let failure = matches!(phase, WorkerPhase::Failed | WorkerPhase::CrashLoop).then_some(failure);
    let record = WorkerRecord { phase, epoch: 3, exits: 2, failure, ..worker.record() };
    let stop_reason = stop_reason.map(str::to_owned);
    Recorded { name: worker.name, model: worker.model, spec: worker.spec, record, stop_reason }
}

#[test]
fn running_worker_is_adopted_in_its_phase() {
    for (phase, stop_reason, expected, effects) in [
        (WorkerPhase::Ready, None, WorkerPhase::Ready, &["adopted"][..]),
        (WorkerPhase::Suspect, None, WorkerPhase::Ready, &["adopted"]),
        (WorkerPhase::Spawning, None, WorkerPhase::Loading, &["adopted"]),
        (WorkerPhase::Loading, None, WorkerPhase::Loading, &["adopted"]),
        (WorkerPhase::Draining, Some("idle"), WorkerPhase::Draining, &["adopted", "drain"]),
        (WorkerPhase::Stopping, Some("idle"), WorkerPhase::Stopping, &["adopted", "terminate"]),
    ] {
        let (worker, found) = Worker::adopt(recorded(phase, stop_reason), 42, 8080, Instant::now(), &rules().timers);
        assert_eq!((worker.phase(), kinds(&found).as_slice()), (expected, effects), "{phase:?}");
        assert_eq!((worker.epoch, worker.pid(), worker.stop_reason()), (3, Some(42), stop_reason));
        let (worker, _) = worker.step(heartbeat(3, vec![job("a")], 9), Instant::now(), &rules());
        assert_eq!(worker.phase() == WorkerPhase::Ready, stop_reason.is_none(), "its heartbeat shows that it is ready");
    }
}

#[test]
fn dead_worker_is_reaped_as_if_its_exit_had_been_seen() {
    for (phase, stop_reason, expected, effects) in [
        (WorkerPhase::Ready, None, WorkerPhase::Backoff, &["kill", "release-port", "exited", "restarting"][..]),
        (
            WorkerPhase::Stopping,
            Some("idle"),
            WorkerPhase::Stopping,
            &["kill", "release-port", "exited", "removed", "forget"],
        ),
        (WorkerPhase::Requested, None, WorkerPhase::Backoff, &[]),
        (WorkerPhase::Requested, Some("idle"), WorkerPhase::Stopping, &["removed", "forget"]),
        (WorkerPhase::Backoff, None, WorkerPhase::Backoff, &[]),
        (WorkerPhase::Failed, None, WorkerPhase::Failed, &[]),
        (WorkerPhase::CrashLoop, None, WorkerPhase::CrashLoop, &[]),
    ] {
        let now = Instant::now();
        let (worker, found) = Worker::reap(recorded(phase, stop_reason), ProcessExit::default(), now, &rules());
        assert_eq!((worker.phase(), kinds(&found).as_slice()), (expected, effects), "{phase:?}");
    }
}

/// One event of each kind, with its name in the table below.
fn every_event() -> Vec<(&'static str, Event)> {
    vec![
        ("started", started()),
        ("not-started", Event::NotStarted(Failure::new(FailureCode::SpawnFailed, "x"))),
        ("loading", loading(1, 500)),
        ("ready", Event::Ready { epoch: 1 }),
        ("other-run", Event::Ready { epoch: 9 }),
        ("heartbeat", heartbeat(1, vec![], 1)),
        ("unhealthy", health(false)),
        ("frozen", Event::Frozen),
        ("drain", stop(StopMode::Drain)),
        ("terminate", stop(StopMode::Terminate)),
        ("kill", stop(StopMode::Kill)),
        ("reset", Event::Reset),
        ("exit", exit(None, Some(9))),
        ("deadline", Event::DeadlinePassed),
        ("gap", Event::ObservationGap),
    ]
}

/// Events that lead to each state.
fn every_state() -> Vec<(&'static str, Vec<Event>)> {
    let draining = with(ready(), vec![stop(StopMode::Drain)]);
    let mut looping: Vec<Event> =
        (1..=5).flat_map(|_| vec![started(), exit(None, Some(6)), Event::DeadlinePassed]).collect();
    looping.pop();
    vec![
        ("requested", vec![]),
        ("spawning", vec![started()]),
        ("loading", vec![started(), loading(1, 0)]),
        ("ready", ready()),
        ("suspect", with(ready(), vec![Event::Frozen])),
        ("draining", draining.clone()),
        ("terminated", with(draining.clone(), vec![Event::DeadlinePassed])),
        ("killed", with(draining.clone(), vec![Event::DeadlinePassed; 2])),
        ("backoff", vec![started(), exit(None, Some(6))]),
        ("crash-loop", looping),
        ("failed", vec![started(), exit(Some(65), None)]),
        ("removed", with(draining, vec![exit(Some(0), None)])),
    ]
}

/// Every event in every state: the phase that follows, `=` for no change, `!` for an event that is published as ignored.
#[test]
fn every_event_in_every_state_has_one_known_outcome() {
    let mut table = String::new();
    let names: Vec<_> = every_event().iter().map(|(name, _)| format!("{name:<11}")).collect();
    let _ = writeln!(table, "{:<11}{}", "", names.join("").trim_end());
    for (state, path) in every_state() {
        let mut line = format!("{state:<11}");
        for (_, event) in every_event() {
            let (before, _) = after(path.clone());
            // Late enough for a ready worker to become suspect, too early for a suspect one to be killed.
            let now = Instant::now() + Duration::from_secs(4);
            let (worker, effects) = before.clone().step(event, now, &rules());
            let ignored = kinds(&effects) == ["ignored"];
            let gone = effects.contains(&Effect::Forget);
            let phase = if gone { "removed" } else { worker.phase().as_str() };
            let cell = match (ignored, worker.state == before.state) {
                (true, true) => "!",
                (true, false) => "CHANGED",
                (false, true) if effects.is_empty() => "=",
                (false, _) => phase,
            };
            let _ = write!(line, "{cell:<11}");
        }
        let _ = writeln!(table, "{}", line.trim_end());
    }
    insta::assert_snapshot!(table);
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => Just(started()),
        1 => Just(Event::NotStarted(Failure::new(FailureCode::SpawnFailed, "x"))),
        2 => (1u64..4, 0u64..1001).prop_map(|(epoch, done)| loading(epoch, done)),
        3 => (1u64..4).prop_map(|epoch| Event::Ready { epoch }),
        4 => (1u64..4, "[a-c]?", 0u64..3).prop_map(|(epoch, ack, steps)| {
            // An acknowledgement belongs to one delivery, and so to one run.
            heartbeat(epoch, if ack.is_empty() { vec![] } else { vec![job(&format!("{ack}{epoch}"))] }, steps)
        }),
        1 => any::<bool>().prop_map(health),
        1 => Just(Event::Frozen),
        1 => prop_oneof![Just(StopMode::Drain), Just(StopMode::Terminate), Just(StopMode::Kill)].prop_map(stop),
        1 => Just(Event::Reset),
        2 => prop_oneof![Just(0), Just(1), Just(65), Just(78)].prop_map(|code| exit(Some(code), None)),
        2 => Just(exit(None, Some(9))),
        3 => Just(Event::DeadlinePassed),
        1 => Just(Event::ObservationGap),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn ports_and_jobs_are_returned_once_and_processes_have_deadlines(
        events in prop::collection::vec((0u64..40, any_event()), 0..60)
    ) {
        let rules = rules();
        let mut now = Instant::now();
        let mut worker = spawn().0;
        let (mut held, mut forgotten) = (0i32, false);
        let mut returned: Vec<JobInFlight> = Vec::new();
        for (after, event) in events {
            now += Duration::from_secs(after);
            let had_process = worker.pid().is_some();
            let starts = matches!(event, Event::Started { .. }) && matches!(worker.state, State::Requested { .. });
            let epoch = worker.epoch;
            let effects;
            (worker, effects) = worker.step(event, now, &rules);
            prop_assert!(!forgotten || effects.is_empty(), "{:?} after the worker was forgotten", effects);
            held += i32::from(starts);
            held -= effects.iter().filter(|e| matches!(e, Effect::ReleasePort { .. })).count() as i32;
            prop_assert_eq!(held, i32::from(worker.pid().is_some()), "a port is held while there is a process");
            let signals = effects.iter().any(|e| matches!(e, Effect::Terminate | Effect::Drain | Effect::Kill));
            prop_assert!(!signals || had_process || starts, "no process is there to be signalled");
            prop_assert!(worker.pid().is_none() || worker.deadline(&rules.timers).is_some(), "{:?}", worker.state);
            let starts_again = effects.contains(&Effect::Start);
            prop_assert_eq!(worker.epoch, epoch + u64::from(starts_again), "a start is a new run");
            for effect in &effects {
                if let Effect::ReturnJobs(returns) = effect {
                    prop_assert!(!returns.jobs.is_empty(), "an effect without jobs");
                    for job in &returns.jobs {
                        prop_assert!(!returned.contains(job), "{:?} is returned twice", job);
                        returned.push(job.clone());
                    }
                }
            }
            forgotten |= effects.contains(&Effect::Forget);
        }
    }

    #[test]
    fn stop_and_exit_remove_a_worker_in_every_state(
        events in prop::collection::vec((0u64..40, any_event()), 0..40)
    ) {
        let rules = rules();
        let mut now = Instant::now();
        let mut worker = spawn().0;
        for (after, event) in events {
            now += Duration::from_secs(after);
            worker = worker.step(event, now, &rules).0;
        }
        worker = worker.step(stop(StopMode::Drain), now, &rules).0;
        // No message comes any more; only the hive's own events do.
        for _ in 0..6 {
            if matches!(worker.state, State::Requested { .. }) {
                worker = worker.step(started(), now, &rules).0;
            }
            if let Some(deadline) = worker.deadline(&rules.timers) {
                now = now.max(deadline);
                worker = worker.step(Event::DeadlinePassed, now, &rules).0;
            }
        }
        let killed = matches!(worker.state, State::Stopping { stage: Stage::Killed { .. }, .. } | State::Removed);
        prop_assert!(killed, "{:?}", worker.state);
        worker = worker.step(exit(None, Some(9)), now, &rules).0;
        prop_assert_eq!(worker.state, State::Removed);
    }

    #[test]
    fn messages_of_a_start_lead_to_ready_in_any_order(
        messages in Just(vec![loading(1, 1), loading(1, 1000), Event::Ready { epoch: 1 }, heartbeat(1, vec![], 1)])
            .prop_shuffle(),
        known_after in 0usize..5,
    ) {
        let mut messages = messages;
        messages.insert(known_after, started());
        // A worker sends a heartbeat every second.
        messages.push(heartbeat(1, vec![], 2));
        let (worker, effects) = all_effects(messages);
        prop_assert!(!kinds(&effects).contains(&"ignored"), "{:?}", effects);
        prop_assert_eq!(worker.phase(), WorkerPhase::Ready);
    }
}
