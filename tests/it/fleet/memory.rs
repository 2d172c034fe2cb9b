//! Memory of workers: estimated before it is allocated, reported, and checked against the limit.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use rbee_nats::recent_events;
use rbee_schema::{
    ByteSize, FailureCode, Limits, MemoryEstimate, ModelReference, ModelSpec, PromptCacheStats, Replicas, WorkerEvent,
    WorkerPhase,
};
use rbee_tests::{
    fleet::{Fleet, HiveSetup, chat, whole},
    tools::{model, repository},
    wait::{PATIENCE, eventually},
};
use serde_json::json;

/// Largest error of an estimate, as a share of the measured memory.
const NEAR: f64 = 0.25;

fn one_worker(path: PathBuf) -> ModelSpec {
    ModelSpec { replicas: Replicas { min: 1, max: 1 }, ..ModelSpec::new(ModelReference::File(path)) }
}

/// The small model, and a larger one of another family if `scripts/setup bench` has fetched it.
fn models() -> Vec<PathBuf> {
    let gemma = repository().join(".tools/models/gemma-3-270m.Q4_K_M.gguf");
    [Some(model()), gemma.is_file().then_some(gemma)].into_iter().flatten().collect()
}

/// The memory estimate of the last worker that loaded a model.
async fn last_estimate(fleet: &Fleet) -> Option<MemoryEstimate> {
    let events = recent_events(&fleet.bus, &fleet.bus.namespace().all_worker_events(), SystemTime::UNIX_EPOCH).await;
    let memory = |body: &[u8]| match serde_json::from_slice(body) {
        Ok(WorkerEvent::Loading { memory, .. }) => memory,
        _ => None,
    };
    events.expect("the server answers").iter().rev().find_map(|event| memory(&event.body))
}

/// Peak resident memory of a process, in bytes: the line `VmHWM` of `/proc/PID/status` (proc_pid_status(5)).
fn peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux reports it");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

#[tokio::test]
async fn worker_uses_about_as_much_memory_as_estimated() {
    for path in models() {
        let fleet = Fleet::start().await;
        fleet.serve("m", ModelSpec { context: Some(512), slots: 2, ..one_worker(path.clone()) }).await;
        let worker = fleet.ready(1).await.remove(0);
        let estimate = last_estimate(&fleet).await.expect("an estimate was published");
        // Enough different prompts to fill the cache.
        for number in 0..4 {
            let mut body = chat(&format!("{number} {}", "bee ".repeat(420)));
            body["max_tokens"] = json!(2);
            whole(&mut fleet.submit("m", body).await.1).await;
        }
        // A heartbeat after the last prompt reports it.
        let mut cache = PromptCacheStats::default();
        eventually("the cache is filled", PATIENCE, async || {
            cache = fleet.ready(1).await[0].cache.expect("it has one");
            cache.idle_bytes > cache.limit_bytes * 3 / 4
        })
        .await;
        assert_eq!(cache.limit_bytes, estimate.cache_bytes);
        let peak = peak(worker.record.pid.expect("it runs"));
        let share = estimate.total_bytes as f64 / peak as f64;
        println!("{}: {share:.2} of {} MiB: {estimate:?}", path.display(), peak >> 20);
        assert!((share - 1.0).abs() <= NEAR, "{}: {share:.2} of {} MiB: {estimate:?}", path.display(), peak >> 20);
    }
}

#[tokio::test]
async fn model_over_the_memory_limit_is_refused_with_a_remedy() {
    // Without a queen, which would stop a worker of a model that is not declared.
    let mut fleet = Fleet::bare().await;
    let setup = fleet.hive_one("");
    fleet.start_hive(&setup).await;
    let limits = Limits { memory: Some(ByteSize(256 << 20)), ..Limits::default() };
    fleet.spawn("w", "m", ModelSpec { limits, ..one_worker(model()) }).await;
    let mut failure = None;
    eventually("the worker has failed", PATIENCE, async || {
        failure = fleet.record("w").await.and_then(|record| record.failure);
        failure.is_some()
    })
    .await;
    let failure = failure.expect("it was found");
    assert_eq!(failure.code, FailureCode::OutOfMemory, "{failure}");
    for words in ["may use 256 MiB", "cache ", "--context (now 4096)", "--slots (now 2)", "--memory"] {
        assert!(failure.message.contains(words), "{words}: {failure}");
    }
    let estimate = last_estimate(&fleet).await.expect("an estimate was published before the failure");
    assert!(estimate.total_bytes > 256 << 20 && estimate.weights_bytes < 128 << 20, "{estimate:?}");
    assert_eq!(fleet.record("w").await.map(|record| (record.phase, record.exits)), Some((WorkerPhase::Failed, 1)));
}

#[tokio::test]
async fn worker_program_without_the_device_fails_permanently() {
    // Without a queen, as above.
    let mut fleet = Fleet::bare().await;
    let arguments = vec!["--worker-devices".to_owned(), "cuda".to_owned()];
    let setup = HiveSetup { arguments, ..fleet.hive_one("") };
    fleet.start_hive(&setup).await;
    fleet.spawn_mock("w", "m", "").await;
    let mut failure = None;
    eventually("the worker has failed", Duration::from_secs(30), async || {
        failure = fleet.record("w").await.and_then(|record| record.failure);
        failure.is_some()
    })
    .await;
    let failure = failure.expect("it was found");
    assert_eq!(failure.code, FailureCode::DeviceMissing, "{failure}");
    assert!(failure.message.contains("cuda:0") && failure.message.contains("--device cpu"), "{failure}");
}
