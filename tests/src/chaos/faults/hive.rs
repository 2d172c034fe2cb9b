//! A hive is killed, frozen, or started twice. Its workers do not notice.

use std::{process::Command, time::SystemTime};

use futures::FutureExt as _;
use rbee_nats::Registry;
use rbee_schema::{Event, ExitClass, HiveEvent, WorkerEvent, WorkerRecord};

use super::{Answer, millis, ports::lease, timers};
use crate::{
    chaos::{Fault, Measured, Needs, Story},
    fleet::{Fleet, Run, signal},
    wait::{PATIENCE, eventually},
};

/// What a hive found when it came back.
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

/// Which process a worker has, in which run, on which port.
fn process(record: &WorkerRecord) -> (Option<u32>, u64, Option<u16>) {
    (record.pid, record.epoch, record.port)
}

pub(super) const KILLED: Fault = Fault {
    name: "hive-killed",
    injected: "SIGKILL to a hive of three workers in the middle of an answer; started again (counted from there)",
    outcome: "every worker adopted: same process, run and port; the answer does not notice",
    detected_within: millis(1_000),
    recovered_within: millis(1_000),
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| killed(fleet).boxed_local(),
};

async fn killed(fleet: &mut Fleet) -> Measured {
    let one = fleet.one(&timers(""));
    fleet.start_hive(&one).await;
    let workers = ["a", "b", "c"];
    let before = fleet.mocks_ready(&workers, "m", "tokens=200,interval=10ms").await;
    let mut answer = Answer::of(fleet, "m", "Hi", 10).await;
    let mut story = Story::of(&fleet.bus).await;
    fleet.kill_role("one");
    let injected = SystemTime::now();
    fleet.start_hive(&one).await;
    let (found, told) = story.hive("recovered", found).await;
    assert_eq!(found, Found { adopted: 3, ended: 0, killed: 0, leases_released: 0 });
    let (_, mended) = story.hive("joined", has_joined).await;
    answer.end().await;
    assert_eq!(answer.resumed(), 0, "nobody else went on with it");
    for (worker, before) in workers.iter().zip(&before) {
        assert_eq!(process(&fleet.ready_in(worker, 1).await), process(before), "{worker}");
    }
    Measured::between(injected, told, mended)
}

pub(super) const KILLED_TEN_TIMES: Fault = Fault {
    name: "hive-killed-ten-times",
    injected: "SIGKILL to a hive ten times, at once after its start, at its first word, and when it takes commands",
    outcome: "every worker adopted each time: same process, run and port; no lease leaked",
    detected_within: None,
    recovered_within: millis(1_000),
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| killed_ten_times(fleet).boxed_local(),
};

async fn killed_ten_times(fleet: &mut Fleet) -> Measured {
    let one = fleet.one(&timers(""));
    fleet.start_hive(&one).await;
    let workers = ["a", "b", "c"];
    let before = fleet.mocks_ready(&workers, "m", "").await;
    fleet.kill_role("one");
    for kill in 0..9 {
        let log = fleet.log("one");
        let written = || std::fs::metadata(&log).map_or(0, |log| log.len());
        let silent = written();
        let pid = fleet.launch_hive(&one);
        match kill % 3 {
            0 => {}
            1 => eventually("the hive says something", PATIENCE, async || written() > silent).await,
            _ => drop(fleet.joined("one", pid).await),
        }
        fleet.kill_role("one");
    }
    let mut story = Story::of(&fleet.bus).await;
    let injected = SystemTime::now();
    fleet.start_hive(&one).await;
    let (_, mended) = story.hive("joined", has_joined).await;
    for (worker, before) in workers.iter().zip(&before) {
        assert_eq!(process(&fleet.ready_in(worker, 1).await), process(before), "{worker}");
    }
    Measured::mended(injected, mended)
}

pub(super) const KILLED_WHILE_SPAWNING: Fault = Fault {
    name: "hive-killed-while-spawning",
    injected: "SIGKILL to a hive five times while it starts two workers: at its first, second, ... event of them",
    outcome: "every worker comes up in the end, on a port of its own; nothing of a half-made start is left",
    detected_within: None,
    recovered_within: millis(2_000),
    healed_within: None,
    ports: 20,
    needs: Needs::Nothing,
    inject: |fleet| killed_while_spawning(fleet).boxed_local(),
};

async fn killed_while_spawning(fleet: &mut Fleet) -> Measured {
    let one = fleet.one(&timers(""));
    fleet.start_hive(&one).await;
    let mut workers = Vec::new();
    for kill in 1..=5 {
        let mut story = Story::of(&fleet.bus).await;
        for worker in ["a", "b"] {
            workers.push(format!("{worker}{kill}"));
            fleet.spawn_mock(&format!("{worker}{kill}"), "m", "").await;
        }
        let mut told = 0;
        let is_of_a_start = |event: &Event| matches!(event, Event::Worker(..) | Event::Port(..));
        story
            .until("event of a start", |event| {
                told += u32::from(is_of_a_start(event));
                (told == kill).then_some(())
            })
            .await;
        fleet.kill_role("one");
        fleet.start_hive(&one).await;
    }
    // A command that was taken and not yet followed is lost with the hive, and the queen gives it again.
    let injected = SystemTime::now();
    for worker in &workers {
        fleet.spawn_mock(worker, "m", "").await;
    }
    for worker in &workers {
        fleet.ready_in(worker, 1).await;
    }
    Measured::mended(injected, SystemTime::now())
}

pub(super) const KILLED_AND_WORKER_TOO: Fault = Fault {
    name: "hive-and-worker-killed",
    injected: "SIGKILL to a hive, then to one of its two workers; the hive is started again (counted from there)",
    outcome: "the living one adopted, the dead one buried and started again on the same port",
    detected_within: millis(1_000),
    recovered_within: millis(2_000),
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| killed_and_worker_too(fleet).boxed_local(),
};

async fn killed_and_worker_too(fleet: &mut Fleet) -> Measured {
    let one = fleet.one(&timers(""));
    fleet.start_hive(&one).await;
    let before = fleet.mocks_ready(&["a", "b"], "m", "").await;
    let mut story = Story::of(&fleet.bus).await;
    fleet.kill_role("one");
    let victim = before[0].pid.expect("it has a process");
    signal(victim, "KILL");
    eventually("the worker is dead", PATIENCE, async || fleet.running().iter().all(|process| process.pid != victim))
        .await;
    let injected = SystemTime::now();
    fleet.start_hive(&one).await;
    let class_of = |event: &WorkerEvent| match event {
        WorkerEvent::Exited { class, .. } => Some(*class),
        _ => None,
    };
    let (class, told) = story.worker("a", "exited", class_of).await;
    assert_eq!(class, ExitClass::Unknown);
    let mended = story.named("a", "ready").await;
    assert_eq!(fleet.ready_in("a", 2).await.port, before[0].port, "the lowest free port");
    assert_eq!(process(&fleet.ready_in("b", 1).await), process(&before[1]));
    Measured::between(injected, told, mended)
}

pub(super) const KILLED_BEFORE_THE_LEDGER: Fault = Fault {
    name: "hive-killed-after-spawn",
    injected: "a process with the mark of a run that no page of the ledger knows, and one with another hive's mark",
    outcome: "the first is killed when the hive is back, the other lives",
    detected_within: millis(1_000),
    recovered_within: None,
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| killed_before_the_ledger(fleet).boxed_local(),
};

async fn killed_before_the_ledger(fleet: &mut Fleet) -> Measured {
    let one = fleet.one(&timers(""));
    let hive = fleet.start_hive(&one).await;
    let before = fleet.mocks_ready(&["a"], "m", "").await;
    let mut story = Story::of(&fleet.bus).await;
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
    let (found, told) = story.hive("recovered", found).await;
    assert_eq!(found, Found { adopted: 1, ended: 0, killed: 1, leases_released: 0 });
    eventually("it is dead", PATIENCE, async || doomed.try_wait().expect("our child").is_some()).await;
    assert_eq!(other.try_wait().expect("our child"), None, "another hive's process is not touched");
    other.kill().and_then(|()| other.wait()).expect("our child");
    assert_eq!(process(&fleet.ready_in("a", 1).await), process(&before[0]));
    Measured::told(injected, told)
}

pub(super) const KILLED_BEFORE_THE_SPAWN: Fault = Fault {
    name: "hive-killed-after-lease",
    injected: "while a hive is away, two leases of it: for a worker that it has on another port, and for nobody",
    outcome: "both are released when it is back; its worker keeps its own",
    detected_within: millis(1_000),
    recovered_within: None,
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| killed_before_the_spawn(fleet).boxed_local(),
};

async fn killed_before_the_spawn(fleet: &mut Fleet) -> Measured {
    let one = fleet.one(&timers(""));
    let hive = fleet.start_hive(&one).await;
    let before = fleet.mocks_ready(&["a"], "m", "").await;
    let mut story = Story::of(&fleet.bus).await;
    fleet.kill_role("one");
    let leases = Registry::ports(&fleet.bus);
    for (port, worker) in [(5, "a"), (6, "nobody")] {
        let key = format!("{}.{}", hive.host, fleet.ports.port(port));
        leases.put(&key, &lease(&hive, worker)).await.expect("stored");
    }
    let injected = SystemTime::now();
    fleet.start_hive(&one).await;
    let (found, told) = story.hive("recovered", found).await;
    assert_eq!(found, Found { adopted: 1, ended: 0, killed: 0, leases_released: 2 });
    assert_eq!(process(&fleet.ready_in("a", 1).await), process(&before[0]));
    Measured::told(injected, told)
}

pub(super) const FROZEN: Fault = Fault {
    name: "hive-frozen",
    injected: "SIGSTOP to a hive for five seconds, longer than its workers may be silent (3 s), then SIGCONT",
    outcome: "the workers serve on meanwhile, none is suspected or killed, and commands are followed again",
    detected_within: None,
    recovered_within: millis(500),
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| frozen(fleet).boxed_local(),
};

async fn frozen(fleet: &mut Fleet) -> Measured {
    fleet.start_hive(&fleet.one(&timers(""))).await;
    fleet.mocks_ready(&["a", "b"], "m", "").await;
    let mut story = Story::of(&fleet.bus).await;
    fleet.signal_role("one", "STOP");
    // An answer that takes as long as the hive is to be frozen, and has one token at a time all along.
    Answer::of(fleet, "m", "mock: tokens=250 interval=20ms", 1).await.end().await;
    let injected = SystemTime::now();
    fleet.signal_role("one", "CONT");
    fleet.spawn_mock("c", "m", "").await;
    let mut harmed = Vec::new();
    let (_, mended) = story
        .until("`spawned` of worker c", |event| match event {
            Event::Worker(_, worker, WorkerEvent::Spawned { .. }) => (worker.as_str() == "c").then_some(()),
            // A worker may be known to be ready by its first beat, before that word of its own is stored.
            Event::Worker(_, _, WorkerEvent::Loading { .. } | WorkerEvent::Ready { .. }) => None,
            Event::Worker(_, worker, event) if worker.as_str() != "c" => {
                harmed.push((worker.clone(), event.name()));
                None
            }
            _ => None,
        })
        .await;
    assert!(harmed.is_empty(), "{harmed:?}");
    // And what silence could still do shows within the time for it: another answer that is as long.
    Answer::of(fleet, "m", "mock: tokens=200 interval=20ms", 1).await.end().await;
    for worker in ["a", "b", "c"] {
        assert_eq!(fleet.ready_in(worker, 1).await.epoch, 1, "{worker} was not killed");
    }
    Measured::mended(injected, mended)
}

pub(super) const STARTED_TWICE: Fault = Fault {
    name: "hive-started-twice",
    injected: "the same hive once more, with the same data folder",
    outcome: "the second exits 75 and says why; the first goes on",
    detected_within: millis(1_000),
    recovered_within: None,
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| second(fleet, "one", "already runs on this machine").boxed_local(),
};

pub(super) const NAME_TAKEN: Fault = Fault {
    name: "hive-name-taken",
    injected: "another hive of the same name, with a data folder of its own",
    outcome: "the second exits 75 and says why; the first goes on",
    detected_within: millis(1_000),
    recovered_within: None,
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| second(fleet, "another", "already runs on").boxed_local(),
};

async fn second(fleet: &mut Fleet, data: &str, says: &str) -> Measured {
    let one = fleet.one(&timers(""));
    let hive = fleet.start_hive(&one).await;
    let before = fleet.mocks_ready(&["a"], "m", "").await;
    let again = crate::fleet::HiveSetup { role: "again".to_owned(), data: fleet.folder().join(data), ..one };
    let injected = SystemTime::now();
    fleet.launch_hive(&again);
    assert_eq!(fleet.ended("again").await, Some(75), "the exit code for what may work later");
    let told = SystemTime::now();
    let said = std::fs::read_to_string(fleet.log("again")).expect("it wrote");
    // Lines are broken to the width of a terminal.
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains(says), "{said}");
    let mut story = Story::of(&fleet.bus).await;
    fleet.spawn_mock("b", "m", "").await;
    story.named("b", "ready").await;
    assert_eq!(fleet.joined("one", hive.pid).await.epoch, hive.epoch, "the first is the hive still");
    assert_eq!(process(&fleet.ready_in("a", 1).await), process(&before[0]));
    Measured::told(injected, told)
}
