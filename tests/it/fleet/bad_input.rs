//! Bad input: answered at once with the reason and a remedy.

use std::fs;

use bytes::Bytes;
use rbee_nats::Submission;
use rbee_schema::{Chunk, Failure, FailureCode, JobClass, JobId, ModelReference, ModelSpec, Replicas, Tenant};
use rbee_tests::{
    fleet::{Fleet, chat, whole},
    tools::model,
    wait::{PATIENCE, eventually},
};
use serde_json::json;

/// Submits a raw body, and returns the failure that answers it.
async fn failure(fleet: &Fleet, model: &str, body: &str) -> Failure {
    let job = JobId::generate();
    let mut output = fleet.bus.read_output(&Tenant::default(), &job).await.expect("the server answers");
    let submission = Submission {
        model: model.parse().expect("a name"),
        class: JobClass::Interactive,
        tenant: Tenant::default(),
        job,
        body: Bytes::from(body.to_owned()),
    };
    fleet.bus.submit(submission).await.expect("accepted");
    match whole(&mut output).await.pop() {
        Some(Chunk::Error { error }) => error,
        other => panic!("an error chunk for {body}, not {other:?}"),
    }
}

/// Waits until the queue is empty: a job leaves it shortly after its last chunk.
async fn queue_is_empty(fleet: &Fleet) {
    eventually("the queue is empty", PATIENCE, async || {
        fleet.bus.queue_depths().await.is_ok_and(|depths| depths.is_empty())
    })
    .await;
}

#[tokio::test]
async fn invalid_body_is_answered_with_the_reason() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "context=100", 1, 1).await;
    let long = chat(&"x".repeat(200)).to_string();
    let mut greedy = chat("Hi");
    greedy["max_tokens"] = json!(5000);
    for (body, code, words) in [
        ("{", FailureCode::InvalidJson, "not JSON"),
        ("", FailureCode::InvalidJson, "not JSON"),
        (r#"{"messages":[]}"#, FailureCode::InvalidRequest, "messages is empty"),
        (r#"{"messages":"Hi"}"#, FailureCode::InvalidRequest, "messages"),
        (
            r#"{"messages":[{"role":"user","content":"Hi"}],"max_tokens":0}"#,
            FailureCode::InvalidRequest,
            "max_tokens is 0",
        ),
        (r#"{"messages":[{"role":"user","content":"Hi"}],"seed":"x"}"#, FailureCode::InvalidRequest, "seed"),
        (&greedy.to_string(), FailureCode::ContextExceeded, "request at most"),
        (&long, FailureCode::ContextExceeded, "shorten the chat"),
    ] {
        let failure = failure(&fleet, "m", body).await;
        assert_eq!(failure.code, code, "{body}: {failure}");
        assert!(failure.message.contains(words), "{body}: {failure}");
    }
    queue_is_empty(&fleet).await;
}

#[tokio::test]
async fn unknown_model_error_lists_the_known_models() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("alpha", "", 0, 1).await;
    fleet.serve_mock("beta", "", 0, 1).await;
    fleet.declared(&["alpha", "beta"]).await;
    let failure = failure(&fleet, "gamma", &chat("Hi").to_string()).await;
    assert_eq!(failure.code, FailureCode::UnknownModel);
    assert!(failure.message.contains("`gamma`") && failure.message.contains("alpha, beta"), "{failure}");
    queue_is_empty(&fleet).await;
}

#[tokio::test]
async fn job_submitted_without_a_queen_is_answered_when_one_starts() {
    let mut fleet = Fleet::bare().await;
    let (_, mut output) = fleet.submit("nobody", chat("Hi")).await;
    fleet.queen().await;
    let chunks = whole(&mut output).await;
    assert!(matches!(&chunks[..], [Chunk::Error { error }] if error.code == FailureCode::UnknownModel), "{chunks:?}");
}

#[tokio::test]
async fn oversized_body_is_refused_by_client_and_server() {
    let fleet = Fleet::bare().await;
    let submission = Submission {
        model: "m".parse().expect("a name"),
        class: JobClass::Interactive,
        tenant: Tenant::default(),
        job: JobId::generate(),
        body: Bytes::from(vec![b' '; (64 << 20) + 1]),
    };
    let failure = fleet.bus.submit(submission).await.expect_err("too large");
    assert_eq!(failure.code, FailureCode::BodyTooLarge);
    let stored = fleet.bus.jetstream().publish("rbee.submit.m", Bytes::from(vec![b' '; 600 << 10])).await;
    let refused = stored.expect("sent").await.expect_err("the stream refuses it").to_string();
    assert!(refused.contains("size exceeds maximum"), "{refused}");
}

/// Declares a model with this reference, and returns the failure of a job for it.
async fn failure_of_file(reference: ModelReference) -> Failure {
    let fleet = Fleet::start().await;
    fleet.serve("m", ModelSpec { replicas: Replicas { min: 0, max: 1 }, ..ModelSpec::new(reference) }).await;
    failure(&fleet, "m", &chat("Hi").to_string()).await
}

#[tokio::test]
async fn missing_model_file_error_names_its_path() {
    let failure = failure_of_file(ModelReference::File("/nowhere/model.gguf".into())).await;
    assert_eq!(failure.code, FailureCode::ModelMissing);
    assert!(failure.message.contains("/nowhere/model.gguf"), "{failure}");
}

#[tokio::test]
async fn truncated_model_file_fails_its_jobs_only_until_it_is_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("truncated.gguf");
    let whole_file = fs::read(model()).expect("the model can be read");
    fs::write(&file, &whole_file[..whole_file.len() / 2]).expect("written");
    let fleet = Fleet::start().await;
    fleet.serve("broken", ModelSpec::new(ModelReference::File(file.clone()))).await;
    fleet.serve_mock("sound", "tokens=2", 0, 1).await;
    let failure = failure(&fleet, "broken", &chat("Hi").to_string()).await;
    assert_eq!(failure.code, FailureCode::ModelInvalid);
    let (_, mut output) = fleet.submit("sound", chat("Hi")).await;
    assert!(matches!(whole(&mut output).await.last(), Some(Chunk::Done { .. })));
    // With a whole file, the next job makes the hive try again.
    fs::write(&file, &whole_file).expect("written");
    let mut body = chat("Hi");
    body["max_tokens"] = json!(2);
    let (_, mut output) = fleet.submit("broken", body).await;
    assert!(matches!(whole(&mut output).await.last(), Some(Chunk::Done { .. })));
}

#[tokio::test]
async fn invalid_declaration_is_refused_with_an_event() {
    let fleet = Fleet::start().await;
    let mut events =
        rbee_nats::EventReader::since(&fleet.bus, "rbee.evt.model.>", None).await.expect("the server answers");
    let store = fleet.bus.jetstream().get_key_value("rbee_models").await.expect("the bucket exists");
    store.put("wrong", r#"{"reference":"model.gguf"}"#.into()).await.expect("stored");
    let record = rbee_tests::wait::soon("refusal", events.next()).await.expect("the server answers").expect("an event");
    assert_eq!(record.subject, "rbee.evt.model.wrong.refused");
    assert!(String::from_utf8_lossy(&record.body).contains("expected file:/"), "{:?}", record.body);
}
