//! A hive is killed, frozen, or started twice. Its workers keep running.

use std::{process::Command, time::SystemTime};

use futures::FutureExt as _;
use rbee_nats::Registry;
use rbee_schema::{Event, ExitClass, HiveEvent, WorkerEvent, WorkerRecord};

use super::{
    answer::Answer,
    ports::lease,
    setup::{millis, timers},
};
use crate::{
    chaos::{events::EventReader, fault::Fault, measured::Measured, needs::Needs},
    fleet::{Fleet, Run, signal},
    wait::{PATIENCE, eventually},
};

/// Counts that a hive reports when it has recovered.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    adopted: u32,
    ended: u32,
    killed: u32,
    leases_released: u32,
}

fn found(event: &HiveEvent) -> Option<Found> {
    match event {
        HiveEvent::Recovered { adopted, ended, killed, leases_released } => {
            let (adopted, ended, killed, leases_released) = (*adopted, *ended, *killed, *leases_released);
            Some(Found { adopted, ended, killed, leases_released })
        }
        _ => None,
    }
}

fn has_joined(event: &HiveEvent) -> Option<()> {
    matches!(event, HiveEvent::Joined { .. }).then_some(())
}

/// Process number, epoch and port of a worker.
fn process(record: &WorkerRecord) -> (Option<u32>, u64, Option<u16>) {
    (record.pid, record.epoch, record.port)
}

pub(in crate::chaos) const KILLED: Fault = Fault {
    name: "hive-killed",
    injected: "SIGKILL to a hive of three workers in the middle of an answer; started again (counted from there)",
    outcome: "every worker is adopted with the same process, run and port; the answer is not interrupted",
    detected_within: millis(1_000),
    recovered_within: millis(1_000),
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| killed(fleet).boxed_local(),
};

async fn killed(fleet: &mut Fleet) -> Measured {
    let one = fleet.hive_one(&timers(""));
    fleet.start_hive(&one).await;
    let workers = ["a", "b", "c"];
    let before = fleet.mocks_ready(&workers, "m", "tokens=200,interval=10ms").await;
    let mut answer = Answer::start(fleet, "m", "Hi", 10).await;
    let mut events = EventReader::start(&fleet.bus).await;
    fleet.kill_role("one");
    let injected = SystemTime::now();
    fleet.start_hive(&one).await;
    let (found, detected) = events.hive_event("recovered", found).await;
    assert_eq!(found, Found { adopted: 3, ended: 0, killed: 0, leases_released: 0 });
    let (_, recovered) = events.hive_event("joined", has_joined).await;
    answer.finish().await;
    assert_eq!(answer.resume_count(), 0, "no other worker resumed it");
    for (worker, before) in workers.iter().zip(&before) {
        assert_eq!(process(&fleet.ready_in(worker, 1).await), process(before), "{worker}");
    }
    Measured::between(injected, detected, recovered)
}

pub(in crate::chaos) const KILLED_TEN_TIMES: Fault = Fault {
    name: "hive-killed-ten-times",
    injected: "SIGKILL to a hive ten times: right after its start, at its first log line, and when it takes commands",
    outcome: "every worker is adopted each time with the same process, run and port; no lease leaks",
    detected_within: None,
    recovered_within: millis(1_000),
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| killed_ten_times(fleet).boxed_local(),
};

async fn killed_ten_times(fleet: &mut Fleet) -> Measured {
    let one = fleet.hive_one(&timers(""));
    fleet.start_hive(&one).await;
    let workers = ["a", "b", "c"];
    let before = fleet.mocks_ready(&workers, "m", "").await;
    fleet.kill_role("one");
    for kill in 0..9 {
        let log = fleet.log("one");
        let written = || std::fs::metadata(&log).map_or(0, |log| log.len());
        let before_start = written();
        let pid = fleet.launch_hive(&one);
        match kill % 3 {
            0 => {}
            1 => eventually("the hive writes to its log", PATIENCE, async || written() > before_start).await,
            _ => drop(fleet.joined("one", pid).await),
        }
        fleet.kill_role("one");
    }
    let mut events = EventReader::start(&fleet.bus).await;
    let injected = SystemTime::now();
    fleet.start_hive(&one).await;
    let (_, recovered) = events.hive_event("joined", has_joined).await;
    for (worker, before) in workers.iter().zip(&before) {
        assert_eq!(process(&fleet.ready_in(worker, 1).await), process(before), "{worker}");
    }
    Measured::recovery(injected, recovered)
}

pub(in crate::chaos) const KILLED_WHILE_SPAWNING: Fault = Fault {
    name: "hive-killed-while-spawning",
    injected: "SIGKILL to a hive five times while it starts two workers: at the first, second, ... event of the start",
    outcome: "every worker becomes ready on a port of its own; an interrupted start leaves nothing behind",
    detected_within: None,
    recovered_within: millis(2_000),
    healed_within: None,
    ports: 20,
    needs: Needs::Nothing,
    inject: |fleet| killed_while_spawning(fleet).boxed_local(),
};

async fn killed_while_spawning(fleet: &mut Fleet) -> Measured {
    let one = fleet.hive_one(&timers(""));
    fleet.start_hive(&one).await;
    let mut workers = Vec::new();
    for kill in 1..=5 {
        let mut events = EventReader::start(&fleet.bus).await;
        for worker in ["a", "b"] {
            workers.push(format!("{worker}{kill}"));
            fleet.spawn_mock(&format!("{worker}{kill}"), "m", "").await;
        }
        let mut seen = 0;
        let is_of_a_start = |event: &Event| matches!(event, Event::Worker(..) | Event::Port(..));
        events
            .find("event of a start", |event| {
                seen += u32::from(is_of_a_start(event));
                (seen == kill).then_some(())
            })
            .await;
        fleet.kill_role("one");
        fleet.start_hive(&one).await;
    }
    // A command that the hive had received and not yet executed is lost with it. The queen would send it again.
    let injected = SystemTime::now();
    for worker in &workers {
        fleet.spawn_mock(worker, "m", "").await;
    }
    for worker in &workers {
        fleet.ready_in(worker, 1).await;
    }
    Measured::recovery(injected, SystemTime::now())
}

pub(in crate::chaos) const KILLED_AND_WORKER_TOO: Fault = Fault {
    name: "hive-and-worker-killed",
    injected: "SIGKILL to a hive, then to one of its two workers; the hive is started again (counted from there)",
    outcome: "the live worker is adopted, the exited one is cleaned up and started again on the same port",
    detected_within: millis(1_000),
    recovered_within: millis(2_000),
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| killed_and_worker_too(fleet).boxed_local(),
};

async fn killed_and_worker_too(fleet: &mut Fleet) -> Measured {
    let one = fleet.hive_one(&timers(""));
    fleet.start_hive(&one).await;
    let before = fleet.mocks_ready(&["a", "b"], "m", "").await;
    let mut events = EventReader::start(&fleet.bus).await;
    fleet.kill_role("one");
    let victim = before[0].pid.expect("it has a process");
    signal(victim, "KILL");
    eventually("the worker has exited", PATIENCE, async || fleet.running().iter().all(|process| process.pid != victim))
        .await;
    let injected = SystemTime::now();
    fleet.start_hive(&one).await;
    let class_of = |event: &WorkerEvent| match event {
        WorkerEvent::Exited { class, .. } => Some(*class),
        _ => None,
    };
    let (class, detected) = events.worker_event("a", "exited", class_of).await;
    assert_eq!(class, ExitClass::Unknown);
    let recovered = events.worker_event_named("a", "ready").await;
    assert_eq!(fleet.ready_in("a", 2).await.port, before[0].port, "the lowest free port");
    assert_eq!(process(&fleet.ready_in("b", 1).await), process(&before[1]));
    Measured::between(injected, detected, recovered)
}

pub(in crate::chaos) const KILLED_BEFORE_THE_LEDGER: Fault = Fault {
    name: "hive-killed-after-spawn",
    injected: "a process marked with a run that is not in the ledger, and one marked with another hive's run",
    outcome: "the first is killed when the hive is back, the other keeps running",
    detected_within: millis(1_000),
    recovered_within: None,
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| killed_before_the_ledger(fleet).boxed_local(),
};

async fn killed_before_the_ledger(fleet: &mut Fleet) -> Measured {
    let one = fleet.hive_one(&timers(""));
    let hive = fleet.start_hive(&one).await;
    let before = fleet.mocks_ready(&["a"], "m", "").await;
    let mut events = EventReader::start(&fleet.bus).await;
    fleet.kill_role("one");
    let start = |state_id: &str, epoch| {
        let run = Run { state_id: state_id.to_owned(), worker: "a".to_owned(), epoch };
        let mut command = Command::new("tail");
        fleet.mark(&mut command).args(["-f", "/dev/null"]).env(Run::VARIABLE, run.to_string());
        command.spawn().expect("tail starts")
    };
    let (mut doomed, mut other) = (start(&hive.state_id, 2), start("another-state", 1));
    let injected = SystemTime::now();
    fleet.start_hive(&one).await;
    let (found, detected) = events.hive_event("recovered", found).await;
    assert_eq!(found, Found { adopted: 1, ended: 0, killed: 1, leases_released: 0 });
    eventually("the process has exited", PATIENCE, async || doomed.try_wait().expect("our child").is_some()).await;
    assert_eq!(other.try_wait().expect("our child"), None, "another hive's process is not touched");
    other.kill().and_then(|()| other.wait()).expect("our child");
    assert_eq!(process(&fleet.ready_in("a", 1).await), process(&before[0]));
    Measured::detection(injected, detected)
}

pub(in crate::chaos) const KILLED_BEFORE_THE_SPAWN: Fault = Fault {
    name: "hive-killed-after-lease",
    injected: "two leases that are written while the hive is down: for a worker of it with another port, and for an unknown worker",
    outcome: "both are released when the hive is back; its worker keeps its own lease",
    detected_within: millis(1_000),
    recovered_within: None,
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| killed_before_the_spawn(fleet).boxed_local(),
};

async fn killed_before_the_spawn(fleet: &mut Fleet) -> Measured {
    let one = fleet.hive_one(&timers(""));
    let hive = fleet.start_hive(&one).await;
    let before = fleet.mocks_ready(&["a"], "m", "").await;
    let mut events = EventReader::start(&fleet.bus).await;
    fleet.kill_role("one");
    let leases = Registry::ports(&fleet.bus);
    for (port, worker) in [(5, "a"), (6, "nobody")] {
        let key = format!("{}.{}", hive.host, fleet.ports.port(port));
        leases.put(&key, &lease(&hive, worker)).await.expect("stored");
    }
    let injected = SystemTime::now();
    fleet.start_hive(&one).await;
    let (found, detected) = events.hive_event("recovered", found).await;
    assert_eq!(found, Found { adopted: 1, ended: 0, killed: 0, leases_released: 2 });
    assert_eq!(process(&fleet.ready_in("a", 1).await), process(&before[0]));
    Measured::detection(injected, detected)
}

pub(in crate::chaos) const FROZEN: Fault = Fault {
    name: "hive-frozen",
    injected: "SIGSTOP to a hive for 5 s, longer than the heartbeat timeout of its workers (3 s), then SIGCONT",
    outcome: "the workers keep serving, none is suspected or killed, and the hive executes commands again",
    detected_within: None,
    recovered_within: millis(500),
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| frozen(fleet).boxed_local(),
};

async fn frozen(fleet: &mut Fleet) -> Measured {
    fleet.start_hive(&fleet.hive_one(&timers(""))).await;
    fleet.mocks_ready(&["a", "b"], "m", "").await;
    let mut events = EventReader::start(&fleet.bus).await;
    fleet.signal_role("one", "STOP");
    // An answer that takes 5 s, one token at a time: the time for which the hive is frozen.
    Answer::start(fleet, "m", "mock: tokens=250 interval=20ms", 1).await.finish().await;
    let injected = SystemTime::now();
    fleet.signal_role("one", "CONT");
    fleet.spawn_mock("c", "m", "").await;
    let mut harmed = Vec::new();
    let (_, recovered) = events
        .find("`spawned` of worker c", |event| match event {
            Event::Worker(_, worker, WorkerEvent::Spawned { .. }) => (worker.as_str() == "c").then_some(()),
            // The first heartbeat of a worker may say that it is ready before its own event is stored.
            Event::Worker(_, _, WorkerEvent::Loading { .. } | WorkerEvent::Ready { .. }) => None,
            Event::Worker(_, worker, event) if worker.as_str() != "c" => {
                harmed.push((worker.clone(), event.name()));
                None
            }
            _ => None,
        })
        .await;
    assert!(harmed.is_empty(), "{harmed:?}");
    // A late reaction to the missed heartbeats would come within the heartbeat timeout: another answer of 4 s covers it.
    Answer::start(fleet, "m", "mock: tokens=200 interval=20ms", 1).await.finish().await;
    for worker in ["a", "b", "c"] {
        assert_eq!(fleet.ready_in(worker, 1).await.epoch, 1, "{worker} was not killed");
    }
    Measured::recovery(injected, recovered)
}

pub(in crate::chaos) const STARTED_TWICE: Fault = Fault {
    name: "hive-started-twice",
    injected: "the same hive is started a second time, with the same data folder",
    outcome: "the second exits with code 75 and a reason; the first continues",
    detected_within: millis(1_000),
    recovered_within: None,
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| second(fleet, "one", "already runs on this machine").boxed_local(),
};

pub(in crate::chaos) const NAME_TAKEN: Fault = Fault {
    name: "hive-name-taken",
    injected: "another hive of the same name is started, with a data folder of its own",
    outcome: "the second exits with code 75 and a reason; the first continues",
    detected_within: millis(1_000),
    recovered_within: None,
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| second(fleet, "another", "already runs on").boxed_local(),
};

async fn second(fleet: &mut Fleet, data: &str, reason: &str) -> Measured {
    let one = fleet.hive_one(&timers(""));
    let hive = fleet.start_hive(&one).await;
    let before = fleet.mocks_ready(&["a"], "m", "").await;
    let again = crate::fleet::HiveSetup { role: "again".to_owned(), data: fleet.folder().join(data), ..one };
    let injected = SystemTime::now();
    fleet.launch_hive(&again);
    assert_eq!(fleet.exit_code("again").await, Some(75), "the exit code of a temporary failure");
    let detected = SystemTime::now();
    let output = std::fs::read_to_string(fleet.log("again")).expect("the hive writes a log");
    // Lines are wrapped to the width of a terminal.
    let output = output.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(output.contains(reason), "{output}");
    let mut events = EventReader::start(&fleet.bus).await;
    fleet.spawn_mock("b", "m", "").await;
    events.worker_event_named("b", "ready").await;
    assert_eq!(fleet.joined("one", hive.pid).await.epoch, hive.epoch, "the first hive still runs");
    assert_eq!(process(&fleet.ready_in("a", 1).await), process(&before[0]));
    Measured::detection(injected, detected)
}
