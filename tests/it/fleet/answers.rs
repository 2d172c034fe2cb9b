//! Answers: every token once and in order, whichever process is killed meanwhile.

use rbee_nats::OutputReader;
use rbee_schema::{
    Chunk, DeadJob, FailureCode, FinishReason, HiveCommand, JobId, ModelReference, ModelSpec, Replicas, StopMode,
};
use rbee_tests::{
    fleet::{Fleet, chat, text, tokens, whole},
    tools::model,
    wait::PATIENCE,
};
use serde_json::json;

/// A chat with a fixed seed, so that its answer is always the same.
fn seeded(content: &str) -> serde_json::Value {
    let mut body = chat(content);
    body["seed"] = json!(7);
    body
}

fn assert_complete(chunks: &[Chunk], count: u32) {
    let indices: Vec<u32> = tokens(chunks).into_iter().map(|(index, _)| index).collect();
    assert_eq!(indices, (0..count).collect::<Vec<_>>(), "every index once and in order");
    assert!(matches!(chunks.last(), Some(Chunk::Done { index, .. }) if *index == count), "{:?}", chunks.last());
}

#[tokio::test]
async fn job_for_a_model_without_workers_starts_one() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=5", 0, 1).await;
    assert!(fleet.workers().await.is_empty());
    let (_, mut output) = fleet.submit("m", chat("Hi")).await;
    let chunks = whole(&mut output).await;
    assert!(matches!(&chunks[0], Chunk::Started { hive, .. } if hive.as_str() == "one"), "{:?}", chunks[0]);
    assert_complete(&chunks, 5);
}

#[tokio::test]
async fn killed_workers_job_resumes_without_losing_or_repeating_tokens() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=60,interval=20ms", 2, 2).await;
    fleet.ready(2).await;
    let (_, mut undisturbed) = fleet.submit("m", seeded("Hi")).await;
    let expected = whole(&mut undisturbed).await;

    let (job, mut output) = fleet.submit("m", seeded("Hi")).await;
    let chunks = answer_with_kills(&fleet, &job, &mut output, [10, 30]).await;
    assert_complete(&chunks, 60);
    assert_eq!(tokens(&chunks), tokens(&expected), "the mock engine resumes exactly where it stopped");
    assert_eq!(text(&chunks), text(&expected));
}

#[tokio::test]
async fn sampled_answer_is_identical_after_kills_and_beside_other_jobs() {
    let fleet = Fleet::start().await;
    let mut spec = ModelSpec::new(ModelReference::File(model()));
    (spec.replicas, spec.slots) = (Replicas { min: 2, max: 2 }, 2);
    fleet.serve("smollm2", spec).await;
    fleet.ready(2).await;
    let mut body = seeded("Tell me a story about a bee that lost its way.");
    (body["temperature"], body["max_tokens"], body["ignore_eos"]) = (json!(0.9), json!(120), json!(true));
    let (_, mut undisturbed) = fleet.submit("smollm2", body.clone()).await;
    let expected = whole(&mut undisturbed).await;
    assert_complete(&expected, 120);

    let mut beside = seeded("Write a long letter.");
    (beside["max_tokens"], beside["ignore_eos"]) = (json!(100), json!(true));
    let (_, mut other) = fleet.submit("smollm2", beside).await;
    let (job, mut output) = fleet.submit("smollm2", body).await;
    let chunks = answer_with_kills(&fleet, &job, &mut output, [15, 50]).await;
    assert_complete(&chunks, 120);
    assert_eq!(tokens(&chunks), tokens(&expected), "a token depends only on the tokens before it");
    assert_eq!(text(&chunks), text(&expected));
    assert_complete(&whole(&mut other).await, 100);
}

/// The answer to a job whose worker is killed when the answer has `kills[0]` tokens, and the next worker at `kills[1]`.
async fn answer_with_kills(fleet: &Fleet, job: &JobId, output: &mut OutputReader, kills: [usize; 2]) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    for kill_at in kills {
        while tokens(&chunks).len() < kill_at {
            chunks.push(output.next(PATIENCE).await.expect("the answer continues").expect("it has no end yet").chunk);
        }
        let workers = fleet.workers().await;
        let busy = workers.iter().find(|worker| worker.jobs.contains(job)).expect("a worker runs the job");
        fleet.kill(busy);
    }
    chunks.extend(whole(output).await);
    assert_eq!(chunks.iter().filter(|chunk| matches!(chunk, Chunk::Resumed { .. })).count(), kills.len());
    chunks
}

#[tokio::test]
async fn job_that_crashes_its_worker_once_is_answered_by_the_next_run() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "", 0, 1).await;
    let (_, mut output) = fleet.submit("m", chat("mock: tokens=12 interval=5ms crash=6")).await;
    assert_complete(&whole(&mut output).await, 12);
    assert_eq!(fleet.ready(1).await[0].record.epoch, 2);
}

#[tokio::test]
async fn job_that_kills_every_worker_is_dead_lettered() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=3", 1, 1).await;
    let (job, mut output) = fleet.submit("m", chat("mock: tokens=9 poison=2")).await;
    let chunks = whole(&mut output).await;
    let Some(Chunk::Error { error }) = chunks.last() else { panic!("{chunks:?}") };
    assert!(error.code == FailureCode::TriedTooOften && error.message.contains("2 workers"), "{error}");
    let dead = fleet.bus.jetstream().get_stream("rbee_dead").await.expect("the stream exists");
    let kept = dead
        .get_last_raw_message_by_subject(&format!("rbee.dead.m.default.{job}"))
        .await
        .expect("the dead letter is stored");
    let kept: DeadJob = serde_json::from_slice(&kept.payload).expect("a dead job");
    assert_eq!(kept.job, job);
    let (_, mut output) = fleet.submit("m", chat("Hi")).await;
    assert_complete(&whole(&mut output).await, 3);
    assert_eq!(fleet.ready(1).await[0].record.epoch, 3, "two workers ended, and none entered a crash loop");
}

#[tokio::test]
async fn job_returned_by_terminated_workers_is_never_dead_lettered() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=300,interval=10ms", 1, 1).await;
    fleet.ready(1).await;
    let (_, mut output) = fleet.submit("m", chat("Hi")).await;
    let mut chunks = Vec::new();
    for round in 1..=4 {
        while tokens(&chunks).len() < round * 10 {
            chunks.push(output.next(PATIENCE).await.expect("the answer continues").expect("it has no end yet").chunk);
        }
        let worker = fleet.ready(1).await.remove(0);
        let stop = HiveCommand::Stop { worker: worker.name, why: "a test".to_owned(), mode: StopMode::Terminate };
        fleet.bus.command(&worker.hive, &stop).await.expect("stored");
        // The model has at least one worker, so another one starts.
        while !matches!(chunks.last(), Some(Chunk::Resumed { .. })) {
            chunks.push(output.next(PATIENCE).await.expect("the answer continues").expect("it has no end yet").chunk);
        }
    }
    chunks.extend(whole(&mut output).await);
    assert_complete(&chunks, 300);
    assert_eq!(chunks.iter().filter(|chunk| matches!(chunk, Chunk::Paused { .. })).count(), 4);
}

#[tokio::test]
async fn jobs_run_concurrently_in_the_slots_of_a_worker() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=30,interval=10ms", 1, 1).await;
    fleet.ready(1).await;
    let mut outputs = Vec::new();
    for _ in 0..6 {
        outputs.push(fleet.submit("m", chat("Hi")).await.1);
    }
    for output in &mut outputs {
        assert_complete(&whole(output).await, 30);
    }
}

#[tokio::test]
async fn answer_stops_at_max_tokens_and_at_a_stop_text() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=50", 0, 1).await;
    let mut limited = seeded("Hi");
    limited["max_tokens"] = json!(3);
    let (_, mut output) = fleet.submit("m", limited).await;
    let short = whole(&mut output).await;
    assert!(matches!(short.last(), Some(Chunk::Done { finish_reason: FinishReason::Length, usage, .. })
        if usage.completion_tokens == 3));

    let (_, mut output) = fleet.submit("m", seeded("Hi")).await;
    let full = text(&whole(&mut output).await);
    let words: Vec<&str> = full.split_whitespace().collect();
    let mut stopped = seeded("Hi");
    stopped["stop"] = json!(words[4]);
    let (_, mut output) = fleet.submit("m", stopped).await;
    let chunks = whole(&mut output).await;
    let (before, _) = full.split_once(words[4]).expect("the word is in the text");
    assert_eq!(text(&chunks), before);
    assert!(matches!(chunks.last(), Some(Chunk::Done { finish_reason: FinishReason::Stop, .. })));
}

#[tokio::test]
async fn running_answer_survives_the_kill_of_the_queen() {
    let mut fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=40,interval=10ms", 1, 1).await;
    fleet.ready(1).await;
    let (_, mut output) = fleet.submit("m", chat("Hi")).await;
    output.next(PATIENCE).await.expect("the answer begins");
    fleet.kill_role("queen");
    assert_complete(&whole(&mut output).await, 40);
    let (_, mut next) = fleet.submit("m", chat("Hi")).await;
    assert_complete(&whole(&mut next).await, 40);
    fleet.queen().await;
    assert_eq!(fleet.ready(1).await.len(), 1, "a new queen knows the fleet");
}

#[tokio::test]
async fn running_answer_continues_after_a_server_restart() {
    let mut fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=100,interval=20ms", 1, 1).await;
    fleet.ready(1).await;
    let (_, mut output) = fleet.submit("m", chat("Hi")).await;
    let first = output.next(PATIENCE).await.expect("the answer begins").expect("it has no end yet");
    fleet.server.kill().await;
    fleet.server.restart().await;
    let mut chunks = vec![first.chunk];
    chunks.extend(whole(&mut output).await);
    assert_complete(&chunks, 100);
}
