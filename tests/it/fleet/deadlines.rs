//! Deadlines of jobs: in the queue, before an answer has begun, and while it is made.

use std::time::{Duration, Instant, SystemTime};

use async_nats::HeaderMap;
use futures::StreamExt as _;
use rbee_nats::{OutputReader, Registry, recent_events};
use rbee_schema::{
    Chunk, FailureCode, FinishReason, HiveCommand, JobEvent, JobId, LeaderRecord, ModelReference, ModelSpec, Replicas,
    StopMode, Tenant,
};
use rbee_tests::{
    fleet::{Fleet, chat, signal, text, tokens, whole},
    wait::{PATIENCE, eventually, hold_fault, soon},
};
use serde_json::{Value, json};

/// Most time by which the end of a job may be later than its deadline on a busy machine.
const LATE: Duration = Duration::from_secs(5);

/// A time in which a deadline of 300 ms passes.
const PASSED: Duration = Duration::from_millis(600);

/// Publishes a chat as any NATS client does, and subscribes to its output.
async fn publish(fleet: &Fleet, subject: &str, headers: &[(&str, &str)]) -> (JobId, OutputReader) {
    let job = JobId::generate();
    let output = fleet.bus.read_output(&Tenant::default(), &job).await.expect("subscribed");
    let mut map = HeaderMap::new();
    map.insert("Nats-Msg-Id", job.as_str());
    headers.iter().for_each(|(name, value)| map.insert(*name, *value));
    let sent = fleet.bus.jetstream().publish_with_headers(subject.to_owned(), map, chat("Hi").to_string().into()).await;
    sent.expect("sent").await.expect("stored");
    (job, output)
}

/// A server, and a hive with one worker of the mock engine with one slot. No queen.
async fn one_slot(options: &str) -> Fleet {
    let mut fleet = Fleet::bare().await;
    let setup = fleet.hive_one("");
    fleet.start_hive(&setup).await;
    spawn(&fleet, options).await;
    fleet
}

async fn spawn(fleet: &Fleet, options: &str) {
    let spec = ModelSpec { slots: 1, ..ModelSpec::new(ModelReference::Mock(options.to_owned())) };
    fleet.spawn("w", "m", spec).await;
    fleet.ready_in("w", 1).await;
}

async fn begun(output: &mut OutputReader) -> Chunk {
    soon("first chunk", output.next(PATIENCE)).await.expect("the answer begins").expect("it has no end yet").chunk
}

/// The chunks up to the first with tokens.
async fn first_tokens(output: &mut OutputReader) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    while tokens(&chunks).is_empty() {
        chunks.push(begun(output).await);
    }
    chunks
}

/// The message of the only chunk of an answer, if that is a failure with this code.
fn refusal(chunks: &[Chunk], code: FailureCode) -> &str {
    match chunks {
        [Chunk::Error { error }] if error.code == code => &error.message,
        other => panic!("expected {code}, found {other:?}"),
    }
}

/// The event that ended a job.
async fn end_event(fleet: &Fleet, job: &JobId) -> JobEvent {
    let mut ends = Vec::new();
    eventually("the end of the job is an event", PATIENCE, async || {
        let filter = format!("rbee.evt.job.default.{job}.*");
        let events = recent_events(&fleet.bus, &filter, SystemTime::UNIX_EPOCH).await.expect("the server answers");
        ends = events.iter().filter_map(|event| serde_json::from_slice(&event.body).ok()).collect();
        ends.retain(|event| matches!(event, JobEvent::Finished { .. } | JobEvent::Failed { .. }));
        !ends.is_empty()
    })
    .await;
    assert_eq!(ends.len(), 1, "{ends:?}");
    ends.remove(0)
}

async fn queue_has(fleet: &Fleet, depth: u64) {
    eventually(&format!("{depth} jobs are in the queue"), PATIENCE, async || {
        let depths = fleet.bus.queue_depths().await.unwrap_or_default();
        depths.iter().map(|(_, depth)| depth).sum::<u64>() == depth
    })
    .await;
}

/// Checks that an answer was cut: it ends with its tokens so far and their usage.
fn assert_cut(chunks: &[Chunk]) -> u32 {
    let Some(Chunk::Done { index, finish_reason: FinishReason::Deadline, usage }) = chunks.last() else {
        panic!("the answer was not cut: {:?}", chunks.last())
    };
    let made = u32::try_from(tokens(chunks).len()).expect("few");
    assert!(made > 0 && !text(chunks).is_empty());
    assert_eq!((*index, usage.completion_tokens), (made, made));
    assert!(usage.prompt_tokens > 0);
    made
}

#[tokio::test]
async fn job_behind_a_busy_slot_is_refused_at_its_queue_deadline() {
    let fleet = Fleet::start().await;
    let spec = ModelSpec {
        slots: 1,
        replicas: Replicas { min: 1, max: 1 },
        ..ModelSpec::new(ModelReference::Mock("tokens=300,interval=100ms".to_owned()))
    };
    fleet.serve("m", spec).await;
    fleet.ready(1).await;
    let (_, mut running) = fleet.submit("m", chat("Hi")).await;
    begun(&mut running).await;
    let began = Instant::now();
    let (job, mut output) = publish(&fleet, "rbee.submit.m", &[("Rbee-Queue-Deadline", "1s")]).await;
    let chunks = whole(&mut output).await;
    let took = began.elapsed();
    let message = refusal(&chunks, FailureCode::DeadlineExceeded);
    assert!(message.contains("queue deadline of 1s"), "{message}");
    assert!((Duration::from_millis(900)..Duration::from_secs(1) + LATE).contains(&took), "{took:?}");
    let event = end_event(&fleet, &job).await;
    assert!(matches!(event, JobEvent::Failed { failure, .. } if failure.code == FailureCode::DeadlineExceeded));
    queue_has(&fleet, 1).await;
    assert!(matches!(begun(&mut running).await, Chunk::Tokens { .. }), "the other answer continues");
}

#[tokio::test]
async fn job_without_any_worker_is_refused_at_its_deadline() {
    let mut fleet = Fleet::bare().await;
    fleet.queen_named("queen", "unserved=1h").await;
    fleet.serve_mock("m", "tokens=2", 0, 1).await;
    fleet.declared(&["m"]).await;
    for (subject, header) in [
        ("rbee.submit.m", "Rbee-Queue-Deadline"),
        ("rbee.submit.m", "Rbee-Deadline"),
        ("rbee.job.m.batch.default", "rbee-deadline"),
    ] {
        let began = Instant::now();
        let (_, mut output) = publish(&fleet, subject, &[(header, "1s")]).await;
        refusal(&whole(&mut output).await, FailureCode::DeadlineExceeded);
        let took = began.elapsed();
        assert!((Duration::from_millis(900)..Duration::from_secs(1) + LATE).contains(&took), "{header}: {took:?}");
    }
    queue_has(&fleet, 0).await;
}

#[tokio::test]
async fn answer_ends_at_its_deadline_with_the_text_so_far() {
    let fleet = one_slot("tokens=300,interval=300ms").await;
    let (job, mut output) = publish(&fleet, "rbee.submit.m", &[("Rbee-Deadline", "2s")]).await;
    let chunks = whole(&mut output).await;
    assert!((1..=7).contains(&assert_cut(&chunks)), "{chunks:?}");
    let event = end_event(&fleet, &job).await;
    assert!(matches!(event, JobEvent::Finished { finish_reason: FinishReason::Deadline, .. }), "{event:?}");
    // The slot is free: the answer would have taken a minute and a half.
    let (_, mut next) = fleet.submit("m", chat("mock: tokens=2,interval=0ms")).await;
    let next = soon("next answer", whole(&mut next)).await;
    assert!(matches!(next.last(), Some(Chunk::Done { finish_reason: FinishReason::Stop, .. })));
    queue_has(&fleet, 0).await;
}

#[tokio::test]
async fn job_without_a_token_fails_at_its_deadline() {
    // The first step takes longer than the job may.
    let fleet = one_slot("tokens=3,interval=4s").await;
    let (job, mut output) = publish(&fleet, "rbee.submit.m", &[("Rbee-Deadline", "1s")]).await;
    let chunks = whole(&mut output).await;
    let [Chunk::Started { .. }, Chunk::Error { error }] = chunks.as_slice() else { panic!("{chunks:?}") };
    assert_eq!(error.code, FailureCode::DeadlineExceeded);
    assert!(matches!(end_event(&fleet, &job).await, JobEvent::Failed { .. }));
    queue_has(&fleet, 0).await;
}

#[tokio::test]
async fn worker_refuses_a_job_that_it_receives_too_late() {
    let mut fleet = Fleet::bare().await;
    let (_, mut late) = publish(&fleet, "rbee.submit.m", &[("Rbee-Queue-Deadline", "300ms")]).await;
    let (_, mut timely) = publish(&fleet, "rbee.submit.m", &[("Rbee-Queue-Deadline", "10m")]).await;
    hold_fault(PASSED).await;
    let setup = fleet.hive_one("");
    fleet.start_hive(&setup).await;
    spawn(&fleet, "tokens=3").await;
    refusal(&whole(&mut late).await, FailureCode::DeadlineExceeded);
    assert!(matches!(whole(&mut timely).await.last(), Some(Chunk::Done { finish_reason: FinishReason::Stop, .. })));
}

#[tokio::test]
async fn deadline_survives_the_death_of_the_worker() {
    let fleet = one_slot("tokens=1000,interval=50ms").await;
    let began = Instant::now();
    let (_, mut output) = publish(&fleet, "rbee.submit.m", &[("Rbee-Deadline", "5s")]).await;
    let mut chunks = first_tokens(&mut output).await;
    let pid = fleet.ready_in("w", 1).await.pid.expect("it has a process");
    signal(pid, "KILL");
    chunks.extend(whole(&mut output).await);
    let took = began.elapsed();
    assert_eq!(chunks.iter().filter(|chunk| matches!(chunk, Chunk::Resumed { .. })).count(), 1, "{chunks:?}");
    assert_cut(&chunks);
    assert!((Duration::from_millis(4900)..Duration::from_secs(5) + LATE).contains(&took), "{took:?}");
}

/// A job whose worker was stopped after the answer had begun, and its output so far. No hive is left.
async fn abandoned(fleet: &mut Fleet, headers: &[(&str, &str)]) -> (JobId, OutputReader, Vec<Chunk>) {
    let (job, mut output) = publish(fleet, "rbee.job.m.batch.default", headers).await;
    let mut chunks = first_tokens(&mut output).await;
    let worker = "w".parse().expect("a name");
    fleet.command_hive_one(&HiveCommand::Stop { worker, mode: StopMode::Terminate, why: String::new() }).await;
    while !matches!(chunks.last(), Some(Chunk::Paused { .. })) {
        chunks.push(begun(&mut output).await);
    }
    assert!(fleet.stop_role("one").await, "the hive exits with code 0");
    (job, output, chunks)
}

#[tokio::test]
async fn begun_answer_that_nobody_continues_ends_at_its_deadline() {
    let mut fleet = one_slot("tokens=1000,interval=50ms").await;
    fleet.serve_mock("m", "tokens=1000,interval=50ms", 0, 1).await;
    let headers = [("Rbee-Deadline", "20s"), ("Rbee-Queue-Deadline", "2s")];
    let (job, mut output, mut chunks) = abandoned(&mut fleet, &headers).await;
    fleet.queen().await;
    chunks.extend(whole(&mut output).await);
    assert_cut(&chunks);
    let event = end_event(&fleet, &job).await;
    assert!(matches!(event, JobEvent::Finished { finish_reason: FinishReason::Deadline, .. }), "{event:?}");
    queue_has(&fleet, 0).await;
}

#[tokio::test]
async fn queen_that_starts_knows_the_deadlines_of_waiting_jobs() {
    let mut fleet = Fleet::bare().await;
    fleet.serve_mock("m", "tokens=2", 0, 1).await;
    let batch = "rbee.job.m.batch.default";
    let (_, mut past) = publish(&fleet, batch, &[("Rbee-Queue-Deadline", "300ms")]).await;
    let (_, mut soon_due) = publish(&fleet, batch, &[("Rbee-Deadline", "8s")]).await;
    let (_, mut without) = publish(&fleet, batch, &[]).await;
    hold_fault(PASSED).await;
    fleet.queen().await;
    refusal(&whole(&mut past).await, FailureCode::DeadlineExceeded);
    queue_has(&fleet, 2).await;
    refusal(&whole(&mut soon_due).await, FailureCode::DeadlineExceeded);
    queue_has(&fleet, 1).await;
    let ports = fleet.ports.range();
    fleet.hive("one", &ports).await;
    assert!(matches!(whole(&mut without).await.last(), Some(Chunk::Done { .. })));
}

#[tokio::test]
async fn queen_that_takes_over_knows_the_deadlines_of_waiting_jobs() {
    let mut fleet = Fleet::bare().await;
    fleet.queen().await;
    fleet.queen_named("second", "").await;
    fleet.serve_mock("m", "tokens=2", 0, 1).await;
    let (_, mut output) = publish(&fleet, "rbee.job.m.batch.default", &[("Rbee-Deadline", "6s")]).await;
    fleet.kill_role("queen");
    refusal(&whole(&mut output).await, FailureCode::DeadlineExceeded);
    let leader: Option<LeaderRecord> = Registry::leader(&fleet.bus).get("leader").await.expect("the server answers");
    assert_eq!(leader.expect("a queen leads").queen.as_str(), "second");
}

#[tokio::test]
async fn invalid_deadline_is_refused_with_what_is_expected() {
    let long = "9".repeat(2000);
    let cases = [
        ("Rbee-Deadline", "30"),
        ("Rbee-Queue-Deadline", "soon"),
        ("Rbee-Deadline", "0s"),
        ("Rbee-Deadline", long.as_str()),
    ];
    let check = async |fleet: &Fleet, who: &str| {
        for (name, value) in cases {
            let (_, mut output) = publish(fleet, "rbee.submit.m", &[(name, value)]).await;
            let chunks = whole(&mut output).await;
            let message = refusal(&chunks, FailureCode::InvalidRequest);
            assert!(message.contains(name) && message.contains("expected a duration"), "{who}: {message}");
            assert!(message.len() < 400, "{who}: {} bytes", message.len());
        }
        queue_has(fleet, 0).await;
    };
    check(&one_slot("tokens=3").await, "worker").await;
    let mut fleet = Fleet::bare().await;
    fleet.queen().await;
    fleet.serve_mock("m", "tokens=3", 0, 1).await;
    fleet.declared(&["m"]).await;
    check(&fleet, "queen").await;
}

#[tokio::test]
async fn service_command_line_and_gateway_refuse_invalid_deadlines() {
    let mut fleet = Fleet::bare().await;
    fleet.queen().await;
    fleet.serve_mock("m", "tokens=3", 0, 1).await;
    fleet.declared(&["m"]).await;
    let mut body = chat("Hi");
    body["model"] = json!("m");
    let inbox = fleet.bus.client().new_inbox();
    let mut replies = fleet.bus.subscribe(inbox.clone()).await.expect("subscribed");
    let mut headers = HeaderMap::new();
    headers.insert("Rbee-Deadline", "soon");
    let request = body.to_string().into();
    let sent = fleet.bus.client().publish_with_reply_and_headers("rbee.api.infer", inbox, headers, request).await;
    sent.expect("the connection is open");
    let reply = soon("reply", replies.next()).await.expect("a message");
    let chunk: Chunk = serde_json::from_slice(&reply.payload).expect("a chunk");
    let message = refusal(std::slice::from_ref(&chunk), FailureCode::InvalidRequest);
    assert!(message.contains("Rbee-Deadline `soon`"), "{message}");

    let run = fleet.rbee(&["run", "m", "Hi", "--queue-deadline", "soon"]).await;
    assert_eq!(run.status.code(), Some(2));
    let error = String::from_utf8_lossy(&run.stderr);
    assert!(error.contains("--queue-deadline") && error.contains("expected a duration"), "{error}");

    let response = post(&fleet, &body, "Rbee-Queue-Deadline", "5").await;
    assert_eq!(response.status().as_u16(), 400);
    let error: Value = response.json().await.expect("JSON");
    assert_eq!(error["error"]["code"], "invalid-request", "{error}");
    queue_has(&fleet, 0).await;
}

async fn post(fleet: &Fleet, body: &Value, header: &str, value: &str) -> reqwest::Response {
    let url = format!("{}/v1/chat/completions", fleet.http().await);
    let sent = reqwest::Client::new().post(url).header(header, value).json(body).timeout(PATIENCE).send().await;
    sent.expect("the gateway answers")
}

#[tokio::test]
async fn gateway_passes_deadlines_on_and_reports_their_ends() {
    let fleet = Fleet::start().await;
    let spec = ModelSpec {
        slots: 1,
        replicas: Replicas { min: 1, max: 1 },
        ..ModelSpec::new(ModelReference::Mock("tokens=300,interval=200ms".to_owned()))
    };
    fleet.serve("m", spec).await;
    fleet.ready(1).await;
    let mut body = chat("Hi");
    body["model"] = json!("m");
    let response = post(&fleet, &body, "Rbee-Deadline", "2s").await;
    assert_eq!(response.status().as_u16(), 200);
    let whole_answer: Value = response.json().await.expect("JSON");
    let choice = &whole_answer["choices"][0];
    assert_eq!(choice["finish_reason"], "length", "{whole_answer}");
    assert!(choice["message"]["content"].as_str().is_some_and(|content| !content.is_empty()));

    let (_, mut running) = fleet.submit("m", chat("Hi")).await;
    begun(&mut running).await;
    let response = post(&fleet, &body, "Rbee-Queue-Deadline", "1s").await;
    assert_eq!(response.status().as_u16(), 504);
    let error: Value = response.json().await.expect("JSON");
    assert_eq!(error["error"]["code"], "deadline-exceeded", "{error}");
    assert!(error["error"]["message"].as_str().is_some_and(|text| text.contains("queue deadline of 1s")), "{error}");

    let run = fleet.rbee(&["run", "m", "Hi", "--queue-deadline", "1s"]).await;
    assert_eq!(run.status.code(), Some(3), "{run:?}");
    assert!(String::from_utf8_lossy(&run.stderr).contains("deadline-exceeded"), "{run:?}");
}

#[tokio::test]
async fn request_over_the_service_keeps_its_deadline() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=300,interval=200ms", 1, 1).await;
    fleet.ready(1).await;
    let mut body = chat("Hi");
    body["model"] = json!("m");
    let inbox = fleet.bus.client().new_inbox();
    let mut replies = fleet.bus.subscribe(inbox.clone()).await.expect("subscribed");
    let mut headers = HeaderMap::new();
    headers.insert("Rbee-Deadline", "2s");
    let request = body.to_string().into();
    let sent = fleet.bus.client().publish_with_reply_and_headers("rbee.api.infer", inbox, headers, request).await;
    sent.expect("the connection is open");
    let mut chunks = Vec::new();
    loop {
        let reply = soon("reply", replies.next()).await.expect("a message");
        if reply.payload.is_empty() {
            break;
        }
        chunks.push(serde_json::from_slice(&reply.payload).expect("a chunk"));
    }
    assert_cut(&chunks);
}

#[tokio::test]
async fn each_class_has_limits_of_its_own() {
    let mut fleet = Fleet::bare().await;
    fleet.set_variable("RBEE_BUS_LIMITS", "interactive_queue_deadline=1s,batch_queue_deadline=3s,batch_deadline=none");
    fleet.queen_named("queen", "unserved=1h").await;
    fleet.serve_mock("m", "tokens=2", 0, 1).await;
    fleet.declared(&["m"]).await;
    let began = Instant::now();
    let (_, mut interactive) = publish(&fleet, "rbee.submit.m", &[]).await;
    let (_, mut batch) = publish(&fleet, "rbee.job.m.batch.default", &[]).await;
    let (_, mut own) = publish(&fleet, "rbee.submit.m", &[("Rbee-Queue-Deadline", "none")]).await;
    let chunks = whole(&mut interactive).await;
    let message = refusal(&chunks, FailureCode::DeadlineExceeded);
    assert!(message.contains("queue deadline of 1s"), "{message}");
    let chunks = whole(&mut batch).await;
    let message = refusal(&chunks, FailureCode::DeadlineExceeded);
    assert!(message.contains("queue deadline of 3s") && began.elapsed() > Duration::from_millis(2900), "{message}");
    queue_has(&fleet, 1).await;
    let ports = fleet.ports.range();
    fleet.hive("one", &ports).await;
    assert!(matches!(whole(&mut own).await.last(), Some(Chunk::Done { .. })), "it states that it may wait");
}

#[tokio::test]
async fn running_worker_learns_of_changed_limits() {
    let fleet = one_slot("tokens=300,interval=100ms").await;
    // The worker has read the limits, and is not started again.
    let (_, mut first) = fleet.submit("m", chat("mock: tokens=2")).await;
    assert!(matches!(whole(&mut first).await.last(), Some(Chunk::Done { finish_reason: FinishReason::Stop, .. })));
    fleet.limit_bus("interactive_deadline=1s").await;
    eventually("an answer is cut", PATIENCE, async || {
        let (_, mut output) = fleet.submit("m", chat("mock: tokens=30")).await;
        let chunks = whole(&mut output).await;
        matches!(chunks.last(), Some(Chunk::Done { finish_reason: FinishReason::Deadline, .. }))
    })
    .await;
}
