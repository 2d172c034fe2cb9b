//! Cancellation of jobs in every state.

use std::{process::Output, time::SystemTime};

use rbee_nats::{OutputReader, recent_events};
use rbee_schema::{
    Chunk, Failure, FailureCode, JobId, ModelReference, ModelSpec, Replicas, Tenant,
    api::{Cancel, CancelReply, JobState},
};
use rbee_tests::{
    fleet::{Fleet, chat, whole},
    wait::{PATIENCE, eventually},
};
use serde_json::{Value, json};

fn is_cancelled(chunks: &[Chunk]) -> bool {
    matches!(chunks.last(), Some(Chunk::Error { error }) if error.code == FailureCode::Cancelled)
}

/// A chat whose answer takes minutes.
fn long() -> Value {
    let mut body = chat("Hi");
    body["max_tokens"] = json!(100_000);
    body
}

/// Declares a model with one slot that answers a [`long`] chat slowly.
async fn serve_slow_model(fleet: &Fleet) {
    let reference = ModelReference::Mock("tokens=100000,interval=5ms,context=200000".to_owned());
    let replicas = Replicas { min: 1, max: 1 };
    fleet.serve("m", ModelSpec { slots: 1, replicas, ..ModelSpec::new(reference) }).await;
}

async fn begins(output: &mut OutputReader) {
    let first = output.next(PATIENCE).await.expect("the answer begins").expect("it has no end yet");
    assert!(matches!(first.chunk, Chunk::Started { .. }));
}

async fn queue_is_empty(fleet: &Fleet) {
    eventually("the queue is empty", PATIENCE, async || {
        fleet.bus.queue_depths().await.is_ok_and(|depths| depths.is_empty())
    })
    .await;
}

/// Asks the queen to cancel a job of the default tenant.
async fn cancel(fleet: &Fleet, job: &JobId) -> Result<JobState, Failure> {
    let request = Cancel { tenant: Tenant::default(), job: job.clone() };
    fleet.bus.request::<_, CancelReply>("cancel", &request).await.map(|reply| reply.state)
}

#[tokio::test]
async fn cancelling_a_running_job_frees_its_slot() {
    let fleet = Fleet::start().await;
    serve_slow_model(&fleet).await;
    let (job, mut output) = fleet.submit("m", long()).await;
    begins(&mut output).await;
    assert_eq!(cancel(&fleet, &job).await, Ok(JobState::Running));
    assert!(is_cancelled(&whole(&mut output).await));
    eventually("the slot is free", PATIENCE, async || fleet.workers().await.iter().all(|w| w.jobs.is_empty())).await;
    queue_is_empty(&fleet).await;
    assert_eq!(cancel(&fleet, &job).await, Ok(JobState::Finished));
}

#[tokio::test]
async fn cancelled_queued_job_is_answered_and_starts_no_worker() {
    let mut fleet = Fleet::bare().await;
    fleet.queen().await;
    fleet.serve_mock("m", "", 0, 1).await;
    let (job, mut output) = fleet.submit("m", chat("Hi")).await;
    assert_eq!(cancel(&fleet, &job).await, Ok(JobState::Queued));
    let chunks = whole(&mut output).await;
    assert!(is_cancelled(&chunks) && chunks.len() == 1, "{chunks:?}");
    queue_is_empty(&fleet).await;
    let failed = recent_events(&fleet.bus, &format!("rbee.evt.job.default.{job}.failed"), SystemTime::UNIX_EPOCH).await;
    assert_eq!(failed.expect("the server answers").len(), 1);

    // A hive that joins gets a worker for the other model, and none for this one.
    fleet.serve_mock("other", "tokens=2", 1, 1).await;
    let ports = fleet.ports.range();
    fleet.hive("one", &ports).await;
    let (_, mut other) = fleet.submit("other", chat("Hi")).await;
    assert!(matches!(whole(&mut other).await.last(), Some(Chunk::Done { .. })));
    let workers = fleet.workers().await;
    assert!(workers.iter().all(|worker| worker.record.model.as_str() == "other"), "{workers:?}");
    let after = fleet.bus.stored_output(&Tenant::default(), &job, 0).await.expect("the server answers");
    assert_eq!(after.len(), 1, "{after:?}");
}

#[tokio::test]
async fn cancellation_without_a_queen_is_carried_out_by_the_next_one() {
    let mut fleet = Fleet::bare().await;
    fleet.serve_mock("m", "", 0, 1).await;
    let (job, mut output) = fleet.submit("m", chat("Hi")).await;
    let cancelled = fleet.rbee(&["cancel", job.as_str()]).await;
    assert!(cancelled.status.success() && stdout(&cancelled).contains("when one starts"), "{cancelled:?}");
    fleet.queen().await;
    assert!(is_cancelled(&whole(&mut output).await));
    queue_is_empty(&fleet).await;
}

#[tokio::test]
async fn cancelled_job_never_starts_although_no_queen_runs() {
    let mut fleet = Fleet::start().await;
    serve_slow_model(&fleet).await;
    let (running, mut first) = fleet.submit("m", long()).await;
    begins(&mut first).await;
    let (waiting, mut second) = fleet.submit("m", long()).await;
    fleet.kill_role("queen");
    let tenant = Tenant::default();
    fleet.bus.cancel(&tenant, &waiting).await.expect("stored");
    // Its worker hears this cancellation and has a slot for the other job.
    fleet.bus.cancel(&tenant, &running).await.expect("stored");
    assert!(is_cancelled(&whole(&mut first).await));
    let chunks = whole(&mut second).await;
    assert!(is_cancelled(&chunks) && chunks.len() == 1, "{chunks:?}");
}

#[tokio::test]
async fn cancelled_job_of_a_killed_worker_is_not_continued() {
    let mut fleet = Fleet::start().await;
    serve_slow_model(&fleet).await;
    let worker = fleet.ready(1).await.remove(0);
    let (job, mut output) = fleet.submit("m", long()).await;
    begins(&mut output).await;
    // Nobody hears the cancellation: the worker and its hive are gone, and so is the queen.
    fleet.kill_role("queen");
    fleet.kill_role("one");
    fleet.kill(&worker);
    fleet.bus.cancel(&Tenant::default(), &job).await.expect("stored");
    fleet.queen().await;
    let chunks = whole(&mut output).await;
    assert!(is_cancelled(&chunks), "{:?}", chunks.last());
    assert!(!chunks.iter().any(|chunk| matches!(chunk, Chunk::Resumed { .. })), "the job was continued");
    queue_is_empty(&fleet).await;
}

#[tokio::test]
async fn unknown_job_is_not_cancelled_and_a_later_one_of_its_id_runs() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=2", 1, 1).await;
    fleet.ready(1).await;
    let nope: JobId = "nope".parse().expect("a name");
    assert_eq!(cancel(&fleet, &nope).await.expect_err("there is none").code, FailureCode::UnknownJob);
    let refused = fleet.rbee(&["cancel", "nope"]).await;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(stderr(&refused).contains("there is no job nope"), "{refused:?}");
    let nothing = fleet.bus.stored_output(&Tenant::default(), &nope, 0).await.expect("the server answers");
    assert!(nothing.is_empty(), "{nothing:?}");
    // A plain client does not ask first.
    fleet.bus.cancel(&Tenant::default(), &nope).await.expect("stored");
    let ran = fleet.rbee(&["run", "m", "Hi", "--id", "nope"]).await;
    assert!(ran.status.success(), "{ran:?}");
}

#[tokio::test]
async fn unknown_job_or_model_is_named_by_attach_and_submit() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=2", 0, 1).await;
    fleet.declared(&["m"]).await;
    for (arguments, code, words) in [
        (&["attach", "nope"][..], 1, "there is no job nope"),
        (&["submit", "nope", "Hi"], 3, "no model `nope` is declared"),
        (&["run", "nope", "Hi"], 3, "no model `nope` is declared"),
    ] {
        let output = fleet.rbee(arguments).await;
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        assert!(stderr(&output).contains(words), "{arguments:?}: {output:?}");
    }
    let first = fleet.rbee(&["run", "m", "Hi", "--id", "mine"]).await;
    assert!(first.status.success(), "{first:?}");
    let again = fleet.rbee(&["submit", "m", "Hi", "--id", "mine"]).await;
    assert!(!again.status.success() && stderr(&again).contains("rbee attach mine"), "{again:?}");
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
