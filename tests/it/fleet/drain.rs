//! Drain, stop and reset by the command line: the command ends when its effect has happened.

use futures::future::join_all;
use rbee_nats::Registry;
use rbee_schema::{Chunk, ModelReference, ModelSpec, Replicas, WorkerPhase, api::Worker};
use rbee_tests::{
    fleet::{Fleet, chat, tokens, whole},
    port::PortBlock,
    wait::{PATIENCE, eventually},
};

fn stderr(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn draining_hive_finishes_its_jobs_until_the_drain_is_undone() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=500,interval=5ms", 0, 1).await;
    let (_, mut output) = fleet.submit("m", chat("Hi")).await;
    output.next(PATIENCE).await.expect("the answer begins");
    let drained = fleet.rbee(&["drain", "one"]).await;
    assert!(drained.status.success(), "{}", stderr(&drained));
    let chunks = whole(&mut output).await;
    assert!(matches!(chunks.last(), Some(Chunk::Done { .. })), "{:?}", chunks.last());
    let resumed = chunks.iter().any(|chunk| matches!(chunk, Chunk::Resumed { .. }));
    assert!(!resumed, "the job was finished by its worker");
    let workers = Registry::workers(&fleet.bus);
    eventually("no worker is left", PATIENCE, async || workers.all().await.is_ok_and(|all| all.is_empty())).await;
    eventually("the table shows the drain", PATIENCE, async || {
        stdout(&fleet.rbee(&["hives"]).await).contains("draining")
    })
    .await;
    assert_eq!(fleet.rbee(&["doctor"]).await.status.code(), Some(1), "doctor reports a draining hive as a problem");

    let (_, mut output) = fleet.submit("m", chat("Hi")).await;
    let events = || async { stdout(&fleet.rbee(&["events", "evt.queen.>", "--since", "10m"]).await) };
    eventually("the model is unplaceable", PATIENCE, async || events().await.contains("one is draining")).await;
    let undone = fleet.rbee(&["drain", "one", "--undo"]).await;
    assert!(undone.status.success(), "{}", stderr(&undone));
    assert!(matches!(whole(&mut output).await.last(), Some(Chunk::Done { .. })));
}

#[tokio::test]
async fn stopped_worker_returns_its_job_and_drained_one_finishes_it() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=1000,interval=5ms", 1, 1).await;
    for (verb, option, is_resumed) in
        [("stop", None, true), ("drain", None, false), ("drain", Some("--hand-over"), true)]
    {
        let worker = fleet.ready(1).await.remove(0);
        let (_, mut output) = fleet.submit("m", chat("Hi")).await;
        output.next(PATIENCE).await.expect("the answer begins");
        let arguments: Vec<&str> = [verb, worker.name.as_str()].into_iter().chain(option).collect();
        let ended = fleet.rbee(&arguments).await;
        assert!(ended.status.success(), "{verb}: {}", stderr(&ended));
        eventually("the worker is removed", PATIENCE, async || {
            fleet.workers().await.iter().all(|left| left.name != worker.name)
        })
        .await;
        let chunks = whole(&mut output).await;
        assert!(matches!(chunks.last(), Some(Chunk::Done { index: 1000, .. })), "{verb}: {:?}", chunks.last());
        assert_eq!(chunks.iter().any(|chunk| matches!(chunk, Chunk::Resumed { .. })), is_resumed, "{verb}");
    }
}

#[tokio::test]
async fn draining_hive_hands_its_jobs_over_when_asked() {
    let mut fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=1000,interval=5ms", 1, 1).await;
    let worker = fleet.ready(1).await.remove(0);
    let ports = PortBlock::take();
    fleet.hive("two", &ports.range()).await;
    let (_, mut output) = fleet.submit("m", chat("Hi")).await;
    output.next(PATIENCE).await.expect("the answer begins");
    let drained = fleet.rbee(&["drain", worker.hive.as_str(), "--hand-over"]).await;
    assert!(drained.status.success(), "{}", stderr(&drained));
    let chunks = whole(&mut output).await;
    assert!(matches!(chunks.last(), Some(Chunk::Done { index: 1000, .. })), "{:?}", chunks.last());
    let continued = chunks.iter().find_map(|chunk| match chunk {
        Chunk::Resumed { hive, .. } => Some(hive.to_string()),
        _ => None,
    });
    assert_eq!(continued.as_deref(), Some("two"), "the other hive has continued the answer");
}

#[tokio::test]
async fn rolling_restart_under_load_breaks_no_stream() {
    let fleet = Fleet::start().await;
    let spec = ModelSpec { slots: 4, ..ModelSpec::new(ModelReference::Mock("tokens=300,interval=10ms".to_owned())) };
    fleet.serve("m", ModelSpec { replicas: Replicas { min: 2, max: 2 }, ..spec }).await;
    let old: Vec<_> = fleet.ready(2).await.into_iter().map(|worker| worker.name).collect();
    let mut outputs = Vec::new();
    for _ in 0..12 {
        outputs.push(fleet.submit("m", chat("Hi")).await.1);
    }
    let restart = async {
        for worker in &old {
            let ended = fleet.rbee(&["drain", worker.as_str(), "--hand-over"]).await;
            assert!(ended.status.success(), "{}", stderr(&ended));
            eventually("the worker is replaced", PATIENCE, async || {
                let workers = fleet.workers().await;
                let is_ready = |other: &&Worker| other.name != *worker && other.record.phase == WorkerPhase::Ready;
                workers.iter().filter(is_ready).count() == 2
            })
            .await;
        }
    };
    let streams = join_all(outputs.iter_mut().map(whole));
    let (answers, ()) = futures::join!(streams, restart);
    for chunks in &answers {
        assert!(matches!(chunks.last(), Some(Chunk::Done { index: 300, .. })), "{:?}", chunks.last());
        assert!(tokens(chunks).into_iter().map(|(index, _)| index).eq(0..300), "each token once and in order");
    }
    let resumed = |chunks: &&Vec<Chunk>| chunks.iter().any(|chunk| matches!(chunk, Chunk::Resumed { .. }));
    assert!(answers.iter().filter(resumed).count() >= 4, "the streams of the first worker were handed over");
}

#[tokio::test]
async fn stopped_hive_exits_with_0_and_its_worker_is_replaced() {
    let mut fleet = Fleet::start().await;
    let ports = PortBlock::take();
    fleet.hive("two", &ports.range()).await;
    fleet.serve_mock("m", "", 1, 1).await;
    let worker = fleet.ready(1).await.remove(0);
    let stopped = fleet.rbee(&["stop", worker.hive.as_str()]).await;
    assert!(stopped.status.success(), "{}", stderr(&stopped));
    assert!(fleet.exit_code(worker.hive.as_str()).await == Some(0), "the hive exits with code 0");
    eventually("its worker is replaced on the other hive", PATIENCE, async || {
        let workers = fleet.workers().await;
        workers.iter().any(|other| other.hive != worker.hive && other.record.phase == WorkerPhase::Ready)
    })
    .await;
}

#[tokio::test]
async fn unknown_or_unsuitable_target_error_says_what_exists() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "", 1, 1).await;
    let worker = fleet.ready(1).await.remove(0).name.to_string();
    for (arguments, code, words) in [
        (&["stop", "nobody"][..], 1, format!("hives: one; workers: one/{worker}")),
        (&["drain", &worker, "--undo"], 2, "--undo works for hives only".to_owned()),
        (&["reset", "one"], 1, "only a worker can be reset".to_owned()),
        (&["reset", &worker], 1, "is ready: only a worker in crash-loop".to_owned()),
    ] {
        let output = fleet.rbee(arguments).await;
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(&words), "{arguments:?}: {}", stderr(&output));
    }
}
