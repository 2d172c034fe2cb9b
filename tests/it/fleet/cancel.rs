//! Cancellation of queued and running jobs.

use rbee_schema::{Chunk, FailureCode, Tenant};
use rbee_tests::{
    fleet::{Fleet, chat, whole},
    wait::{PATIENCE, eventually},
};

fn is_cancelled(chunks: &[Chunk]) -> bool {
    matches!(chunks.last(), Some(Chunk::Error { error }) if error.code == FailureCode::Cancelled)
}

#[tokio::test]
async fn cancelling_a_running_job_frees_its_slot() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=100000,interval=5ms,context=200000", 1, 1).await;
    let mut body = chat("Hi");
    body["max_tokens"] = serde_json::json!(100_000);
    let (job, mut output) = fleet.submit("m", body).await;
    let first = output.next(PATIENCE).await.expect("the answer begins").expect("it has no end yet");
    assert!(matches!(first.chunk, Chunk::Started { .. }));
    fleet.bus.cancel(&Tenant::default(), &job).await.expect("the server answers");
    assert!(is_cancelled(&whole(&mut output).await));
    eventually("the slot is free", PATIENCE, async || fleet.workers().await.iter().all(|w| w.jobs.is_empty())).await;
    eventually("the job has left the queue", PATIENCE, async || {
        fleet.bus.queue_depths().await.is_ok_and(|depths| depths.is_empty())
    })
    .await;
}

#[tokio::test]
async fn cancelled_queued_job_is_answered_and_never_runs() {
    let mut fleet = Fleet::bare().await;
    fleet.queen().await;
    fleet.serve_mock("m", "", 0, 1).await;
    let (job, mut output) = fleet.submit("m", chat("Hi")).await;
    fleet.bus.cancel(&Tenant::default(), &job).await.expect("the server answers");
    let chunks = whole(&mut output).await;
    assert!(is_cancelled(&chunks) && chunks.len() == 1, "{chunks:?}");
    let ports = fleet.ports.range();
    fleet.hive("one", &ports).await;
    eventually("the job has left the queue", PATIENCE, async || {
        fleet.bus.queue_depths().await.is_ok_and(|depths| depths.is_empty())
    })
    .await;
    let after = fleet.bus.stored_output(&Tenant::default(), &job, 0).await.expect("the server answers");
    assert_eq!(after.len(), 1, "{after:?}");
}
