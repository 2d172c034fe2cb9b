//! Bodies that are larger than a message of the bus: stored apart from their jobs, read by workers, and deleted with the jobs.

use std::{io::Write as _, process::Stdio};

use async_nats::{HeaderMap, jetstream::message::PublishMessage};
use bytes::Bytes;
use futures::StreamExt as _;
use rbee_nats::{OutputReader, StoredBody};
use rbee_schema::{Chunk, DeadJob, FailureCode, JobId, ModelReference, ModelSpec, Tenant};
use rbee_tests::{
    fleet::{Fleet, chat, tokens, whole},
    wait::{PATIENCE, eventually, soon},
};
use serde_json::{Value, json};

/// Size of a text that fits into no message.
const LARGE: usize = 2 << 20;

/// Options of a mock model that has room for such a text: its tokens are bytes.
const ROOM: &str = "context=4000000,tokens=3";

fn large_text() -> String {
    "bees ".repeat(LARGE / 5)
}

/// Timers of a queen that sweeps at once what is a second old.
const SWEEPS: &str = "body_sweep=100ms,orphan=1s";

/// Names of the stored bodies.
async fn stored_bodies(fleet: &Fleet) -> Vec<String> {
    let bodies = fleet.bus.bodies().list().await.unwrap_or_default();
    bodies.into_iter().map(|body| body.name).collect()
}

/// Waits until no body is stored, and nothing is left of one.
async fn bodies_are_gone(fleet: &Fleet) {
    eventually("nothing is left of the body", PATIENCE, async || {
        let stream = fleet.bus.jetstream().get_stream("OBJ_rbee_bodies").await;
        stream.is_ok_and(|stream| stream.cached_info().state.messages == 0)
    })
    .await;
}

/// Publishes a job as any NATS client would: with the name of a stored body. Returns the reader of its output.
async fn publish(fleet: &Fleet, tenant: &str, object: &str) -> OutputReader {
    let (tenant, job): (Tenant, _) = (tenant.parse().expect("a name"), JobId::generate());
    let output = fleet.bus.read_output(&tenant, &job).await.expect("the server answers");
    let message = PublishMessage::build().message_id(format!("{tenant}.{job}")).header("Rbee-Body", object);
    let message = message.outbound_message(format!("rbee.job.m.interactive.{tenant}"));
    let sent =
        fleet.bus.jetstream().publish_with_headers(message.subject, message.headers.unwrap_or_default(), Bytes::new());
    sent.await.expect("sent").await.expect("stored");
    output
}

async fn failure(output: &mut OutputReader) -> (FailureCode, String) {
    match whole(output).await.pop() {
        Some(Chunk::Error { error }) => (error.code, error.message),
        other => panic!("a failure, not {other:?}"),
    }
}

fn prompt_tokens(chunks: &[Chunk]) -> usize {
    match chunks.first() {
        Some(Chunk::Started { prompt_tokens, .. }) => *prompt_tokens as usize,
        other => panic!("the answer begins with {other:?}"),
    }
}

#[tokio::test]
async fn large_body_is_answered_over_the_bus_and_deleted() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", ROOM, 1, 1).await;
    let (_, mut output) = fleet.submit("m", chat(&large_text())).await;
    let chunks = whole(&mut output).await;
    assert!(prompt_tokens(&chunks) >= LARGE - 5, "{chunks:?}");
    assert!(matches!(chunks.last(), Some(Chunk::Done { .. })), "{chunks:?}");
    bodies_are_gone(&fleet).await;

    // As `nats object put` and `nats pub` do it.
    let body = Bytes::from(chat(&large_text()).to_string());
    fleet.bus.bodies().put("acme/by-hand", &body).await.expect("stored");
    let chunks = whole(&mut publish(&fleet, "acme", "acme/by-hand").await).await;
    assert!(matches!(chunks.last(), Some(Chunk::Done { .. })), "{chunks:?}");
    bodies_are_gone(&fleet).await;
}

#[tokio::test]
async fn large_body_is_answered_by_request() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", ROOM, 1, 1).await;
    fleet.declared(&["m"]).await;
    let request = |text: String| {
        let mut body = chat(&text);
        body["model"] = json!("m");
        Bytes::from(body.to_string())
    };
    let ask = async |headers: HeaderMap, body: Bytes| {
        let inbox = fleet.bus.client().new_inbox();
        let mut replies = fleet.bus.subscribe(inbox.clone()).await.expect("the server answers");
        let sent = fleet.bus.client().publish_with_reply_and_headers("rbee.api.infer", inbox, headers, body).await;
        sent.expect("sent");
        let mut chunks: Vec<Chunk> = Vec::new();
        loop {
            let reply = soon("reply", replies.next()).await.expect("the connection stands");
            if reply.payload.is_empty() {
                return chunks;
            }
            chunks.push(serde_json::from_slice(&reply.payload).expect("a chunk"));
        }
    };
    let chunks = ask(HeaderMap::new(), request("x".repeat(700 << 10))).await;
    assert!(prompt_tokens(&chunks) > 700 << 10, "{chunks:?}");
    bodies_are_gone(&fleet).await;

    fleet.bus.bodies().put("default/by-hand", &request(large_text())).await.expect("stored");
    let mut headers = HeaderMap::new();
    headers.insert("Rbee-Body", "default/by-hand");
    let chunks = ask(headers.clone(), Bytes::new()).await;
    assert!(prompt_tokens(&chunks) >= LARGE - 5, "{chunks:?}");
    bodies_are_gone(&fleet).await;
    let chunks = ask(headers, Bytes::new()).await;
    assert!(matches!(&chunks[..], [Chunk::Error { error }] if error.code == FailureCode::BodyMissing), "{chunks:?}");
}

#[tokio::test]
async fn large_body_is_answered_on_the_command_line() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", ROOM, 1, 1).await;
    let mut command = fleet.command();
    command.args(["run", "m", "-", "--json"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut run = command.spawn().expect("rbee runs");
    let mut stdin = run.stdin.take().expect("a pipe");
    let written = tokio::task::spawn_blocking(move || stdin.write_all(large_text().as_bytes()));
    let output = tokio::task::spawn_blocking(move || run.wait_with_output());
    written.await.expect("no panic").expect("written");
    let output = output.await.expect("no panic").expect("rbee ends");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let chunks: Vec<Chunk> = text.lines().map(|line| serde_json::from_str(line).expect("a chunk")).collect();
    assert!(prompt_tokens(&chunks) >= LARGE - 5, "{chunks:?}");
    bodies_are_gone(&fleet).await;
}

#[tokio::test]
async fn large_body_is_answered_over_http_up_to_the_limit() {
    let fleet = Fleet::start().await;
    fleet.limit_bus("body_size=3MiB,bodies_size=16MiB").await;
    fleet.serve_mock("m", ROOM, 1, 1).await;
    fleet.declared(&["m"]).await;
    let post = async |text: String, n: u32| {
        let mut body = chat(&text);
        body["model"] = json!("m");
        body["n"] = json!(n);
        let url = format!("{}/v1/chat/completions", fleet.http().await);
        let sent = reqwest::Client::new().post(url).json(&body).timeout(PATIENCE).send().await.expect("it answers");
        let status = sent.status().as_u16();
        (status, sent.json::<Value>().await.expect("JSON"))
    };
    let (status, answer) = post(large_text(), 1).await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer["usage"]["prompt_tokens"].as_u64().is_some_and(|tokens| tokens as usize >= LARGE - 5), "{answer}");
    bodies_are_gone(&fleet).await;
    for (text, n, expected) in
        [("x".repeat(4 << 20), 1, (413, "body-too-large")), (large_text(), 2, (400, "invalid-request"))]
    {
        let (status, answer) = post(text, n).await;
        assert_eq!((status, answer["error"]["code"].as_str().unwrap_or_default()), expected, "{answer}");
    }
    bodies_are_gone(&fleet).await;
}

#[tokio::test]
async fn worker_that_resumes_a_job_reads_its_body_again() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "context=4000000,tokens=60,interval=30ms", 2, 2).await;
    let workers = fleet.ready(2).await;
    let (_, mut output) = fleet.submit("m", chat(&large_text())).await;
    let mut chunks = Vec::new();
    while tokens(&chunks).len() < 5 {
        chunks.push(output.next(PATIENCE).await.expect("the answer continues").expect("not the last").chunk);
    }
    assert_eq!(stored_bodies(&fleet).await.len(), 1);
    let Some(Chunk::Started { worker, .. }) = chunks.first() else { panic!("{chunks:?}") };
    fleet.kill(workers.iter().find(|one| one.name == *worker).expect("one of both"));
    chunks.extend(whole(&mut output).await);
    assert!(chunks.iter().any(|chunk| matches!(chunk, Chunk::Resumed { .. })), "{chunks:?}");
    assert!(tokens(&chunks).iter().map(|(index, _)| *index).eq(0..60), "each token once");
    bodies_are_gone(&fleet).await;
}

#[tokio::test]
async fn body_that_is_missing_foreign_or_another_one_is_a_typed_failure() {
    let fleet = Fleet::start().await;
    fleet.limit_bus("body_size=3MiB,bodies_size=16MiB").await;
    fleet.serve_mock("m", ROOM, 1, 1).await;
    let bodies = fleet.bus.bodies();
    let body = Bytes::from(chat(&large_text()).to_string());

    let (code, message) = failure(&mut publish(&fleet, "acme", "acme/nothing").await).await;
    assert_eq!(code, FailureCode::BodyMissing, "{message}");
    assert!(message.contains("acme/nothing") && message.contains("store the body again"), "{message}");

    bodies.put("other/secret", &body).await.expect("stored");
    let (code, message) = failure(&mut publish(&fleet, "acme", "other/secret").await).await;
    assert_eq!(code, FailureCode::InvalidRequest, "{message}");
    assert!(message.contains("expected acme/NAME"), "{message}");
    assert_eq!(stored_bodies(&fleet).await, ["other/secret"], "a tenant can neither read nor delete another's body");
    bodies.delete("other/secret").await.expect("deleted");

    bodies.put("acme/large", &Bytes::from(vec![b' '; 4 << 20])).await.expect("stored");
    let (code, message) = failure(&mut publish(&fleet, "acme", "acme/large").await).await;
    assert_eq!(code, FailureCode::BodyTooLarge, "{message}");

    // Its content does not have the digest of its record.
    let record = bodies.put("acme/changed", &body).await.expect("stored");
    let mut record = serde_json::to_value(&record).expect("JSON");
    record["digest"] = json!("SHA-256=AAAA");
    let subject = "$O.rbee_bodies.M.YWNtZS9jaGFuZ2Vk";
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Rollup", "sub");
    let sent = fleet.bus.jetstream().publish_with_headers(subject, headers, record.to_string().into()).await;
    sent.expect("sent").await.expect("stored");
    let (code, message) = failure(&mut publish(&fleet, "acme", "acme/changed").await).await;
    assert_eq!(code, FailureCode::BodyCorrupt, "{message}");
    bodies_are_gone(&fleet).await;
}

#[tokio::test]
async fn body_of_a_job_that_is_refused_or_cancelled_is_deleted() {
    let mut fleet = Fleet::bare().await;
    fleet.queen().await;
    fleet.serve_mock("m", "", 0, 1).await;
    fleet.declared(&["m"]).await;
    let (_, mut output) = fleet.submit("unknown", chat(&large_text())).await;
    assert_eq!(failure(&mut output).await.0, FailureCode::UnknownModel);
    bodies_are_gone(&fleet).await;

    let (job, mut output) = fleet.submit("m", chat(&large_text())).await;
    assert_eq!(stored_bodies(&fleet).await.len(), 1, "the job waits");
    fleet.bus.cancel(&Tenant::default(), &job).await.expect("stored");
    assert_eq!(failure(&mut output).await.0, FailureCode::Cancelled);
    bodies_are_gone(&fleet).await;

    let (job, _) = fleet.submit("m", chat(&large_text())).await;
    let again = rbee_nats::Submission {
        model: "m".parse().expect("a name"),
        class: rbee_schema::JobClass::Interactive,
        tenant: Tenant::default(),
        job,
        body: chat(&large_text()).to_string().into(),
    };
    assert_eq!(fleet.bus.submit(again).await.expect_err("twice").code, FailureCode::DuplicateJob);
    assert_eq!(stored_bodies(&fleet).await.len(), 1, "the body of the first job stays");
}

#[tokio::test]
async fn chat_that_is_much_longer_than_the_context_fails_early() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "context=1000", 1, 1).await;
    let (_, mut output) = fleet.submit("m", chat(&large_text())).await;
    let (code, message) = failure(&mut output).await;
    assert_eq!(code, FailureCode::ContextExceeded, "{message}");
    assert!(message.contains("more than 2000 tokens and the context holds 1000"), "{message}");
    bodies_are_gone(&fleet).await;
}

#[tokio::test]
async fn body_without_a_job_is_swept_and_that_of_a_waiting_job_stays() {
    let mut fleet = Fleet::bare().await;
    fleet.queen_named("queen", SWEEPS).await;
    fleet.serve_mock("m", "", 0, 1).await;
    let (_, _output) = fleet.submit("m", chat(&large_text())).await;
    let waiting = stored_bodies(&fleet).await;
    let orphan = Bytes::from(vec![b' '; 3 << 20]);
    fleet.bus.bodies().put("default/orphan", &orphan).await.expect("stored");
    // The content of an object whose client ended before it stored the record.
    let piece = fleet.bus.jetstream().publish("$O.rbee_bodies.C.abandoned", orphan.slice(..1000)).await;
    piece.expect("sent").await.expect("stored");
    let messages = async || {
        let stream = fleet.bus.jetstream().get_stream("OBJ_rbee_bodies").await.expect("the bucket exists");
        stream.cached_info().state.messages
    };
    eventually("the orphans are swept", PATIENCE, async || stored_bodies(&fleet).await == waiting).await;
    eventually("only the record and the pieces of one body are left", PATIENCE, async || messages().await == 6).await;
    fleet.bus.jetstream().get_stream("rbee_jobs").await.expect("the stream exists").purge().await.expect("purged");
    bodies_are_gone(&fleet).await;
}

#[tokio::test]
async fn dead_letter_keeps_the_body_of_its_job() {
    let mut fleet = Fleet::bare().await;
    let mut hive = fleet.hive_one("first_backoff=50ms,backoff=100ms,backoff_most=200ms");
    hive.arguments = ["--worker-settings", "probation=200ms"].map(str::to_owned).to_vec();
    fleet.start_hive(&hive).await;
    let options = "context=4000000,tokens=30,interval=50ms".to_owned();
    fleet.spawn("w", "m", ModelSpec { slots: 2, ..ModelSpec::new(ModelReference::Mock(options)) }).await;
    fleet.ready_in("w", 1).await;
    let text = format!("mock: poison=1 interval=50ms\n{}", large_text());
    let (_, mut output) = fleet.submit("m", chat(&text)).await;
    assert_eq!(failure(&mut output).await.0, FailureCode::TriedTooOften);
    let dead = fleet.bus.jetstream().get_stream("rbee_dead").await.expect("the stream exists");
    let letter = dead.get_raw_message(dead.cached_info().state.last_sequence).await.expect("a dead letter");
    let letter: DeadJob = serde_json::from_slice(&letter.payload).expect("a dead letter");
    let object = letter.body_object.expect("the body is stored");
    assert_eq!((letter.body.as_str(), stored_bodies(&fleet).await), ("", vec![object.clone()]));

    // A queen that sweeps leaves it until the dead letter is gone.
    fleet.queen_named("queen", SWEEPS).await;
    fleet.bus.bodies().put("default/orphan", &Bytes::from_static(b"{}")).await.expect("stored");
    eventually("the orphan is swept", PATIENCE, async || stored_bodies(&fleet).await == [object.clone()]).await;
    let stored = StoredBody::named(&object, &Tenant::default()).expect("a body of the tenant");
    let body = fleet.bus.fetch_body(&stored).await.expect("it is stored");
    assert_eq!(body, chat(&text).to_string());
    dead.purge().await.expect("purged");
    bodies_are_gone(&fleet).await;
}
