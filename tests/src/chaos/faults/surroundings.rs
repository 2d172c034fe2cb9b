//! The surroundings of a hive fail: the bus, the disk, the uniqueness of process numbers.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use futures::FutureExt as _;
use rbee_schema::{Chunk, ExitClass, FailureCode, HiveEvent, WorkerEvent};

use super::{
    answer::Answer,
    setup::{AT_ONCE, millis, terminate_worker, timers},
};
use crate::{
    chaos::{events::EventReader, fault::Fault, measured::Measured, needs::Needs},
    fleet::Fleet,
    wait::{PATIENCE, eventually, hold_fault},
};

pub(in crate::chaos) const BUS_KILLED: Fault = Fault {
    name: "bus-killed",
    injected: "SIGKILL to nats-server in the middle of an answer; back after 5 s (counted from there)",
    outcome: "no worker is suspected or killed, the same worker continues the answer, and the hive executes commands again",
    detected_within: None,
    recovered_within: millis(2_000),
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| bus_killed(fleet).boxed_local(),
};

/// Downtime of the bus. Longer than the heartbeat timeout of a worker, 3 s.
const AWAY: Duration = Duration::from_secs(5);

async fn bus_killed(fleet: &mut Fleet) -> Measured {
    fleet.start_hive(&fleet.hive_one(&timers(""))).await;
    let before = fleet.mocks_ready(&["a", "b"], "m", "tokens=300,interval=10ms").await;
    let mut answer = Answer::start(fleet, "m", "Hi", 10).await;
    let mut events = EventReader::start(&fleet.bus).await;
    fleet.server.kill().await;
    hold_fault(AWAY).await;
    let injected = SystemTime::now();
    fleet.server.restart().await;
    while !matches!(answer.next().await.0, Chunk::Tokens { .. }) {}
    let recovered = SystemTime::now();
    answer.finish().await;
    assert_eq!(answer.resume_count(), 0, "the same worker continued it");
    fleet.spawn_mock("c", "m", "").await;
    let mut harmed = Vec::new();
    events
        .find("`spawned` of worker c", |event| match event {
            rbee_schema::Event::Worker(_, worker, WorkerEvent::Spawned { .. }) => {
                (worker.as_str() == "c").then_some(())
            }
            // The first heartbeat of a worker may say that it is ready before its own event is stored.
            rbee_schema::Event::Worker(_, _, WorkerEvent::Loading { .. } | WorkerEvent::Ready { .. }) => None,
            rbee_schema::Event::Worker(_, worker, event) if worker.as_str() != "c" => {
                harmed.push((worker.clone(), event.name()));
                None
            }
            _ => None,
        })
        .await;
    assert!(harmed.is_empty(), "{harmed:?}");
    for (worker, before) in ["a", "b"].iter().zip(&before) {
        let now = fleet.ready_in(worker, 1).await;
        assert_eq!((now.pid, now.epoch), (before.pid, 1), "{worker} was not killed");
    }
    Measured::recovery(injected, recovered)
}

pub(in crate::chaos) const DISK_FULL: Fault = Fault {
    name: "disk-full",
    injected: "the disk of the hive's data folder (a tmpfs of 1 MiB) fills up in the middle of an answer, and is then cleared",
    outcome: "a spawn is refused with `disk-full`, the running answer continues; with free space the spawn succeeds",
    detected_within: AT_ONCE,
    recovered_within: AT_ONCE,
    healed_within: None,
    ports: 10,
    needs: Needs::MountNamespace,
    inject: |fleet| disk_full(fleet).boxed_local(),
};

async fn disk_full(fleet: &mut Fleet) -> Measured {
    let one = fleet.hive_one(&timers(""));
    fs::create_dir_all(&one.data).expect("a folder of this test");
    // Mounted in a namespace of the hive: the mount ends with the hive and its workers.
    let mount = format!("mount -t tmpfs -o size=1m none '{}' || exit 1", one.data.display());
    let pid = fleet.launch("one", one.command_after(fleet, &["unshare", "-rm"], &mount));
    fleet.joined("one", pid).await;
    fleet.mocks_ready(&["a"], "m", "tokens=400,interval=5ms").await;
    let mut answer = Answer::start(fleet, "m", "Hi", 10).await;
    let filler = format!("/proc/{pid}/root{}/filler", one.data.display());
    let mut file = fs::File::create(&filler).expect("the disk has room");
    while file.write_all(&[0; 4096]).is_ok() {}

    let mut events = EventReader::start(&fleet.bus).await;
    let injected = SystemTime::now();
    fleet.spawn_mock("b", "m", "").await;
    let refused = |event: &WorkerEvent| match event {
        WorkerEvent::Failed { failure, .. } => Some(failure.code),
        _ => None,
    };
    let (code, detected) = events.worker_event("b", "failed", refused).await;
    assert_eq!(code, FailureCode::DiskFull);
    answer.finish().await;
    Answer::start(fleet, "m", "mock: tokens=20", 1).await.finish().await;
    assert_eq!(fleet.ready_in("a", 1).await.epoch, 1, "the running worker is not affected");
    drop(file);
    fs::remove_file(&filler).expect("it is ours");
    let room = SystemTime::now();
    fleet.spawn_mock("b", "m", "").await;
    let recovered = events.worker_event_named("b", "spawned").await;
    fleet.ready_in("b", 1).await;
    let recovered = Measured::recovery(room, recovered).recovered;
    Measured { recovered, ..Measured::detection(injected, detected) }
}

pub(in crate::chaos) const NUMBER_REUSED: Fault = Fault {
    name: "number-reused",
    injected: "SIGKILL to a hive and its worker; another process gets the worker's process number; the hive is started again",
    outcome: "the other process is neither adopted nor signalled; the worker is cleaned up and started again",
    detected_within: millis(1_000),
    recovered_within: millis(2_000),
    healed_within: None,
    ports: 10,
    needs: Needs::ProcessNamespace,
    inject: |fleet| number_reused(fleet).boxed_local(),
};

async fn number_reused(fleet: &mut Fleet) -> Measured {
    let one = fleet.hive_one(&timers(""));
    // A shell that is the first process of its namespace and executes commands line by line.
    let mut command = Command::new("unshare");
    fleet.mark(&mut command).args(["-pf", "--mount-proc", "--kill-child", "sh"]).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut shell = command.spawn().expect("unshare is there");
    let mut input = shell.stdin.take().expect("it is piped");
    let mut execute = |line: String| writeln!(input, "{line}").expect("the shell reads");
    let start = {
        let hive = one.command(fleet);
        let words = std::iter::once(hive.get_program()).chain(hive.get_args());
        let words: Vec<String> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
        format!("{} >>'{}' 2>&1 & HIVE=$!", words.join(" "), fleet.log("one").display())
    };
    let mut events = EventReader::start(&fleet.bus).await;
    execute(start.clone());
    events.hive_event("joined", |event| matches!(event, HiveEvent::Joined { .. }).then_some(())).await;
    let worker = fleet.mocks_ready(&["a"], "m", "").await.remove(0);
    let number = worker.pid.expect("it has a process");
    execute(format!("kill -KILL $HIVE {number}; wait $HIVE"));
    eventually("both have exited", PATIENCE, async || fleet.running().iter().all(|process| process.run.is_none()))
        .await;
    // The number is free when the shell, the parent of every process in its namespace, has reaped the worker. It does so
    // while it waits for an external command.
    execute(format!(
        "tries=0; while [ \"$!\" != {number} ] && [ $tries -lt 500 ]; do env true; echo {} > /proc/sys/kernel/ns_last_pid; \
         tail -f /dev/null & [ $! = {number} ] || kill -KILL $!; tries=$((tries+1)); done",
        number - 1
    ));
    let has_its_number = |process: &crate::fleet::RunningProcess| process.inner_pid == number && process.run.is_none();
    eventually("another process has the number", PATIENCE, async || fleet.running().iter().any(has_its_number)).await;

    let injected = SystemTime::now();
    execute(start);
    let class_of = |event: &WorkerEvent| match event {
        WorkerEvent::Exited { class, .. } => Some(*class),
        WorkerEvent::Adopted { .. } => panic!("the other process was adopted"),
        _ => None,
    };
    let (class, detected) = events.worker_event("a", "exited", class_of).await;
    assert_eq!(class, ExitClass::Unknown);
    let recovered = events.worker_event_named("a", "ready").await;
    fleet.ready_in("a", 2).await;
    assert!(fleet.running().iter().any(has_its_number), "the other process still runs");
    terminate_worker(fleet, "a").await;
    shell.kill().and_then(|()| shell.wait()).expect("our child");
    eventually("the namespace is empty", PATIENCE, async || fleet.running().is_empty()).await;
    Measured::between(injected, detected, recovered)
}
