//! What a hive stands on gives way: the bus, the disk, the numbers of processes.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use futures::FutureExt as _;
use rbee_schema::{Chunk, ExitClass, FailureCode, HiveEvent, WorkerEvent};

use super::{AT_ONCE, Answer, end_worker, millis, timers};
use crate::{
    chaos::{Fault, Measured, Needs, Story},
    fleet::Fleet,
    wait::{PATIENCE, eventually, lasting},
};

pub(super) const BUS_KILLED: Fault = Fault {
    name: "bus-killed",
    injected: "SIGKILL to nats-server in the middle of an answer; back after 5 s (counted from there)",
    outcome: "no worker is suspected or killed, the answer goes on with the same one, commands are followed again",
    detected_within: None,
    recovered_within: millis(2_000),
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| bus_killed(fleet).boxed_local(),
};

/// Longer than a worker may be silent.
const AWAY: Duration = Duration::from_secs(5);

async fn bus_killed(fleet: &mut Fleet) -> Measured {
    fleet.start_hive(&fleet.one(&timers(""))).await;
    let before = fleet.mocks_ready(&["a", "b"], "m", "tokens=300,interval=10ms").await;
    let mut answer = Answer::of(fleet, "m", "Hi", 10).await;
    let mut story = Story::of(&fleet.bus).await;
    fleet.server.kill().await;
    lasting(AWAY).await;
    let injected = SystemTime::now();
    fleet.server.restart().await;
    while !matches!(answer.next().await.0, Chunk::Tokens { .. }) {}
    let mended = SystemTime::now();
    answer.end().await;
    assert_eq!(answer.resumed(), 0, "the same one went on with it");
    fleet.spawn_mock("c", "m", "").await;
    let mut harmed = Vec::new();
    story
        .until("`spawned` of worker c", |event| match event {
            rbee_schema::Event::Worker(_, worker, WorkerEvent::Spawned { .. }) => {
                (worker.as_str() == "c").then_some(())
            }
            // A worker may be known to be ready by its first beat, before that word of its own is stored.
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
    Measured::mended(injected, mended)
}

pub(super) const DISK_FULL: Fault = Fault {
    name: "disk-full",
    injected: "the disk of the hive's data folder (a tmpfs of 1 MiB) is full in the middle of an answer; then it is not",
    outcome: "a spawn is refused with `disk-full`, the running answer goes on; with room the spawn is followed",
    detected_within: AT_ONCE,
    recovered_within: AT_ONCE,
    healed_within: None,
    ports: 10,
    needs: Needs::MountNamespace,
    inject: |fleet| disk_full(fleet).boxed_local(),
};

async fn disk_full(fleet: &mut Fleet) -> Measured {
    let one = fleet.one(&timers(""));
    fs::create_dir_all(&one.data).expect("a folder of this test");
    // Mounted in a namespace of the hive: it goes with the hive and its workers.
    let mount = format!("mount -t tmpfs -o size=1m none '{}' || exit 1", one.data.display());
    let pid = fleet.launch("one", one.command_after(fleet, &["unshare", "-rm"], &mount));
    fleet.joined("one", pid).await;
    fleet.mocks_ready(&["a"], "m", "tokens=400,interval=5ms").await;
    let mut answer = Answer::of(fleet, "m", "Hi", 10).await;
    let filler = format!("/proc/{pid}/root{}/filler", one.data.display());
    let mut file = fs::File::create(&filler).expect("the disk has room");
    while file.write_all(&[0; 4096]).is_ok() {}

    let mut story = Story::of(&fleet.bus).await;
    let injected = SystemTime::now();
    fleet.spawn_mock("b", "m", "").await;
    let refused = |event: &WorkerEvent| match event {
        WorkerEvent::Failed { failure, .. } => Some(failure.code),
        _ => None,
    };
    let (code, told) = story.worker("b", "failed", refused).await;
    assert_eq!(code, FailureCode::DiskFull);
    answer.end().await;
    Answer::of(fleet, "m", "mock: tokens=20", 1).await.end().await;
    assert_eq!(fleet.ready_in("a", 1).await.epoch, 1, "what runs is not touched");
    drop(file);
    fs::remove_file(&filler).expect("it is ours");
    let room = SystemTime::now();
    fleet.spawn_mock("b", "m", "").await;
    let mended = story.named("b", "spawned").await;
    fleet.ready_in("b", 1).await;
    let recovered = Measured::mended(room, mended).recovered;
    Measured { recovered, ..Measured::told(injected, told) }
}

pub(super) const NUMBER_REUSED: Fault = Fault {
    name: "number-reused",
    injected: "SIGKILL to a hive and its worker; a stranger gets the worker's process number; the hive comes back",
    outcome: "the stranger is neither adopted nor signalled; the worker is buried and started again",
    detected_within: millis(1_000),
    recovered_within: millis(2_000),
    healed_within: None,
    ports: 10,
    needs: Needs::ProcessNamespace,
    inject: |fleet| number_reused(fleet).boxed_local(),
};

async fn number_reused(fleet: &mut Fleet) -> Measured {
    let one = fleet.one(&timers(""));
    // A shell that is the first process of its namespace and does what it is told, line by line.
    let mut command = Command::new("unshare");
    fleet.mark(&mut command).args(["-pf", "--mount-proc", "--kill-child", "sh"]).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut shell = command.spawn().expect("unshare is there");
    let mut orders = shell.stdin.take().expect("it is piped");
    let mut order = |line: String| writeln!(orders, "{line}").expect("the shell listens");
    let start = {
        let hive = one.command(fleet);
        let words = std::iter::once(hive.get_program()).chain(hive.get_args());
        let words: Vec<String> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
        format!("{} >>'{}' 2>&1 & HIVE=$!", words.join(" "), fleet.log("one").display())
    };
    let mut story = Story::of(&fleet.bus).await;
    order(start.clone());
    story.hive("joined", |event| matches!(event, HiveEvent::Joined { .. }).then_some(())).await;
    let worker = fleet.mocks_ready(&["a"], "m", "").await.remove(0);
    let number = worker.pid.expect("it has a process");
    order(format!("kill -KILL $HIVE {number}; wait $HIVE"));
    eventually("both are dead", PATIENCE, async || fleet.running().iter().all(|process| process.run.is_none())).await;
    // The number is free when the shell, which is everybody's parent there, has reaped the worker: it does while it
    // waits for a command that is not its own.
    order(format!(
        "tries=0; while [ \"$!\" != {number} ] && [ $tries -lt 500 ]; do env true; echo {} > /proc/sys/kernel/ns_last_pid; \
         tail -f /dev/null & [ $! = {number} ] || kill -KILL $!; tries=$((tries+1)); done",
        number - 1
    ));
    let is_stranger = |process: &crate::fleet::RunningProcess| process.inner_pid == number && process.run.is_none();
    eventually("a stranger has the number", PATIENCE, async || fleet.running().iter().any(is_stranger)).await;

    let injected = SystemTime::now();
    order(start);
    let class_of = |event: &WorkerEvent| match event {
        WorkerEvent::Exited { class, .. } => Some(*class),
        WorkerEvent::Adopted { .. } => panic!("a stranger was adopted"),
        _ => None,
    };
    let (class, told) = story.worker("a", "exited", class_of).await;
    assert_eq!(class, ExitClass::Unknown);
    let mended = story.named("a", "ready").await;
    fleet.ready_in("a", 2).await;
    assert!(fleet.running().iter().any(is_stranger), "the stranger lives");
    end_worker(fleet, "a").await;
    shell.kill().and_then(|()| shell.wait()).expect("our child");
    eventually("the namespace is gone", PATIENCE, async || fleet.running().is_empty()).await;
    Measured::between(injected, told, mended)
}
