//! A worker that runs jobs is killed, freezes, hangs, or crashes in a loop.

use std::time::{Duration, SystemTime};

use futures::FutureExt as _;
use rbee_schema::{ByteSize, ExitClass, HiveCommand, Limits, ModelReference, ModelSpec, WorkerEvent, WorkerPhase};

use super::{
    answer::Answer,
    setup::{AT_ONCE, millis, terminate_worker, timers},
};
use crate::{
    chaos::{events::EventReader, fault::Fault, measured::Measured, needs::Needs},
    fleet::{Fleet, signal},
    wait::{PATIENCE, eventually},
};

pub(in crate::chaos) const KILLED_IN_MID_STREAM: Fault = Fault {
    name: "worker-killed",
    injected: "SIGKILL to a worker in the middle of an answer; another one of the model is ready",
    outcome: "another worker continues the answer, each token once; the worker is started again",
    detected_within: AT_ONCE,
    recovered_within: AT_ONCE,
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| killed_in_mid_stream(fleet).boxed_local(),
};

async fn killed_in_mid_stream(fleet: &mut Fleet) -> Measured {
    fleet.start_hive(&fleet.hive_one(&timers(""))).await;
    fleet.mocks_ready(&["a", "b"], "m", "tokens=100,interval=5ms").await;
    let mut answer = Answer::start(fleet, "m", "Hi", 10).await;
    let victim = answer.worker();
    let pid = fleet.record(victim.as_str()).await.and_then(|record| record.pid).expect("it has a process");
    let mut events = EventReader::start(&fleet.bus).await;

    let injected = SystemTime::now();
    signal(pid, "KILL");
    let recovered = answer.resumes_elsewhere().await;
    let (exit, detected) = events.worker_event(victim.as_str(), "exited", exit_of).await;
    assert_eq!(exit, (ExitClass::Signal, 1), "class, jobs returned to the queue");
    answer.finish().await;
    fleet.ready_in(victim.as_str(), 2).await;
    Measured::between(injected, detected, recovered)
}

/// The class of an exit, and the number of jobs that were returned to the queue.
fn exit_of(event: &WorkerEvent) -> Option<(ExitClass, u32)> {
    match event {
        WorkerEvent::Exited { class, jobs_returned, .. } => Some((*class, *jobs_returned)),
        _ => None,
    }
}

fn why_it_stops(event: &WorkerEvent) -> Option<String> {
    match event {
        WorkerEvent::Stopping { why } => Some(why.clone()),
        _ => None,
    }
}

pub(in crate::chaos) const FROZEN: Fault = Fault {
    name: "worker-frozen",
    injected: "SIGSTOP to a worker in the middle of an answer; the kernel notifies its hive",
    outcome: "suspect at once, killed after `silent` (3 s); another worker continues the answer",
    detected_within: AT_ONCE,
    recovered_within: millis(3_100),
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| frozen(fleet).boxed_local(),
};

async fn frozen(fleet: &mut Fleet) -> Measured {
    fleet.start_hive(&fleet.hive_one(&timers(""))).await;
    frozen_until_killed(fleet, "stopped (SIGSTOP)").await
}

pub(in crate::chaos) const FROZEN_WITHOUT_NOTICE: Fault = Fault {
    name: "adopted-worker-frozen",
    injected: "SIGSTOP to an adopted worker, about which the kernel notifies nobody, in the middle of an answer",
    outcome: "suspect after `suspect` (1.5 s), killed after `silent` (3 s); another worker continues the answer",
    detected_within: millis(1_600),
    recovered_within: millis(3_100),
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| frozen_without_notice(fleet).boxed_local(),
};

async fn frozen_without_notice(fleet: &mut Fleet) -> Measured {
    let one = fleet.hive_one(&timers(""));
    fleet.start_hive(&one).await;
    fleet.mocks_ready(&["a", "b"], "m", "tokens=500,interval=5ms").await;
    fleet.kill_role("one");
    fleet.start_hive(&one).await;
    frozen_until_killed(fleet, "no heartbeat").await
}

async fn frozen_until_killed(fleet: &mut Fleet, suspected_for: &str) -> Measured {
    fleet.mocks_ready(&["a", "b"], "m", "tokens=500,interval=5ms").await;
    let mut answer = Answer::start(fleet, "m", "Hi", 10).await;
    let victim = answer.worker();
    let pid = fleet.record(victim.as_str()).await.and_then(|record| record.pid).expect("it has a process");
    let mut events = EventReader::start(&fleet.bus).await;

    let injected = SystemTime::now();
    signal(pid, "STOP");
    let suspect = |event: &WorkerEvent| match event {
        WorkerEvent::Suspect { why, .. } => Some(why.clone()),
        _ => None,
    };
    let (why, detected) = events.worker_event(victim.as_str(), "suspect", suspect).await;
    assert!(why.contains(suspected_for), "{why}");
    let recovered = answer.resumes_elsewhere().await;
    let (exit, _) = events.worker_event(victim.as_str(), "exited", exit_of).await;
    assert_eq!(exit, (ExitClass::Unresponsive, 1), "class, jobs returned to the queue");
    answer.finish().await;
    fleet.ready_in(victim.as_str(), 2).await;
    Measured::between(injected, detected, recovered)
}

pub(in crate::chaos) const THAWED: Fault = Fault {
    name: "zombie-thawed",
    injected: "SIGSTOP to a worker in the middle of an answer, and SIGCONT when another worker has resumed its job",
    outcome: "the appends of the resumed worker are refused: each token once; it serves again",
    detected_within: None,
    recovered_within: None,
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| thawed(fleet).boxed_local(),
};

async fn thawed(fleet: &mut Fleet) -> Measured {
    // The hive does not kill the worker: the queue redelivers its job.
    fleet.limit_bus("redelivery=10s").await;
    fleet.start_hive(&fleet.hive_one(&timers("suspect=10m,silent=10m,hang=10m,health=10m"))).await;
    fleet.mocks_ready(&["a", "b"], "m", "tokens=300,interval=5ms").await;
    let mut answer = Answer::start(fleet, "m", "Hi", 10).await;
    let victim = answer.worker();
    let pid = fleet.record(victim.as_str()).await.and_then(|record| record.pid).expect("it has a process");
    let mut events = EventReader::start(&fleet.bus).await;
    signal(pid, "STOP");
    events.worker_event_named(victim.as_str(), "suspect").await;
    answer.resumes_elsewhere().await;
    let injected = SystemTime::now();
    signal(pid, "CONT");
    let recovered = events.worker_event_named(victim.as_str(), "recovered").await;
    answer.finish().await;
    assert_eq!(answer.resume_count(), 1, "no third worker resumes it");
    let record = fleet.ready_in(victim.as_str(), 1).await;
    assert_eq!((record.pid, record.epoch), (Some(pid), 1), "the worker was not killed");
    Measured::recovery(injected, recovered)
}

pub(in crate::chaos) const HANGS: Fault = Fault {
    name: "worker-hangs",
    injected: "the engine does not return from a step; heartbeats continue",
    outcome: "killed after `hang` (2 s, checked with heartbeats of 1 s); another worker continues the answer",
    detected_within: millis(3_100),
    recovered_within: millis(3_150),
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| hangs(fleet).boxed_local(),
};

async fn hangs(fleet: &mut Fleet) -> Measured {
    fleet.start_hive(&fleet.hive_one(&timers(""))).await;
    fleet.mocks_ready(&["a", "b"], "m", "").await;
    let mut events = EventReader::start(&fleet.bus).await;
    let mut answer = Answer::start(fleet, "m", "mock: tokens=40 interval=5ms hang=20", 20).await;
    let injected = SystemTime::now();
    let victim = answer.worker();
    let (why, detected) = events.worker_event(victim.as_str(), "stopping", why_it_stops).await;
    assert!(why.contains("no step"), "{why}");
    let recovered = answer.resumes_elsewhere().await;
    let (exit, _) = events.worker_event(victim.as_str(), "exited", exit_of).await;
    assert_eq!(exit, (ExitClass::Hang, 1), "class, jobs returned to the queue");
    answer.finish().await;
    fleet.ready_in(victim.as_str(), 2).await;
    Measured::between(injected, detected, recovered)
}

pub(in crate::chaos) const UNHEALTHY: Fault = Fault {
    name: "worker-unhealthy",
    injected: "a worker does not answer its health check (SIGSTOP, with a heartbeat timeout of ten minutes)",
    outcome: "killed after three checks, 200 ms apart, each with 2 s for its answer; started again",
    detected_within: millis(2_800),
    recovered_within: millis(3_800),
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| unhealthy(fleet).boxed_local(),
};

async fn unhealthy(fleet: &mut Fleet) -> Measured {
    fleet.start_hive(&fleet.hive_one(&timers("suspect=10m,silent=10m,hang=10m,health=200ms"))).await;
    let pid = fleet.mocks_ready(&["a"], "m", "").await[0].pid.expect("it has a process");
    let mut events = EventReader::start(&fleet.bus).await;
    let injected = SystemTime::now();
    signal(pid, "STOP");
    let (why, detected) = events.worker_event("a", "stopping", why_it_stops).await;
    assert!(why.contains("health check failed 3 times"), "{why}");
    let recovered = events.worker_event_named("a", "ready").await;
    fleet.ready_in("a", 2).await;
    Measured::between(injected, detected, recovered)
}

pub(in crate::chaos) const OUT_OF_MEMORY: Fault = Fault {
    name: "worker-out-of-memory",
    injected: "the engine allocates up to 2 GiB in the middle of an answer; its worker may use 256 MiB",
    outcome: "only that worker is killed and reported as `oom`, another continues the answer, and it is started again",
    // The time up to the limit is spent on allocation.
    detected_within: millis(1_000),
    recovered_within: millis(1_000),
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| out_of_memory(fleet).boxed_local(),
};

async fn out_of_memory(fleet: &mut Fleet) -> Measured {
    let hive = fleet.start_hive(&fleet.hive_one(&timers(""))).await;
    for worker in ["a", "b"] {
        let limits = Limits { memory: Some(ByteSize(256 << 20)), ..Limits::default() };
        let spec = ModelSpec { limits, ..ModelSpec::new(ModelReference::Mock(String::new())) };
        fleet.spawn(worker, "m", spec).await;
    }
    fleet.mocks_ready(&["c"], "sibling", "").await;
    fleet.ready_in("a", 1).await;
    fleet.ready_in("b", 1).await;
    let mut sibling = Answer::start(fleet, "sibling", "mock: tokens=200 interval=5ms", 1).await;
    let mut events = EventReader::start(&fleet.bus).await;
    let mut answer = Answer::start(fleet, "m", "mock: tokens=40 interval=5ms oom=20 oom-limit=2GiB", 20).await;
    let injected = SystemTime::now();
    let victim = answer.worker();
    let recovered = answer.resumes_elsewhere().await;
    let (exit, detected) = events.worker_event(victim.as_str(), "exited", exit_of).await;
    assert_eq!(exit, (ExitClass::Oom, 1), "class, jobs returned to the queue");
    answer.finish().await;
    sibling.finish().await;
    assert_eq!(sibling.resume_count(), 0, "the other workers are not affected");
    fleet.ready_in(victim.as_str(), 2).await;
    assert_eq!(fleet.joined("one", hive.pid).await.epoch, hive.epoch, "nor is the hive");
    Measured::between(injected, detected, recovered)
}

pub(in crate::chaos) const CRASH_LOOP: Fault = Fault {
    name: "crash-loop",
    injected: "the engine crashes on every load; then `reset`",
    outcome: "after five exits the worker is reported as crash-looped and waits for a trial; a reset starts it at once",
    detected_within: Some(Duration::from_secs(5)),
    recovered_within: AT_ONCE,
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| crash_loop(fleet).boxed_local(),
};

async fn crash_loop(fleet: &mut Fleet) -> Measured {
    fleet.start_hive(&fleet.hive_one(&timers(""))).await;
    let mut events = EventReader::start(&fleet.bus).await;
    let injected = SystemTime::now();
    fleet.spawn_mock("a", "m", "load-crash").await;
    let mut exits = 0;
    let (_, detected) = events
        .worker_event("a", "crash-looped", |event| {
            exits += u32::from(matches!(event, WorkerEvent::Exited { .. }));
            matches!(event, WorkerEvent::CrashLooped { .. }).then_some(())
        })
        .await;
    assert_eq!(exits, 5);
    let reset = SystemTime::now();
    fleet.command_hive_one(&HiveCommand::Reset { worker: "a".parse().expect("a name") }).await;
    let recovered = events.worker_event_named("a", "spawned").await;
    // It crashes again and returns to the crash loop.
    events.worker_event_named("a", "crash-looped").await;
    eventually("its record says that it is in a crash loop", PATIENCE, async || {
        fleet.record("a").await.is_some_and(|record| record.phase == WorkerPhase::CrashLoop)
    })
    .await;
    terminate_worker(fleet, "a").await;
    Measured { detected: Measured::detection(injected, detected).detected, ..Measured::recovery(reset, recovered) }
}
