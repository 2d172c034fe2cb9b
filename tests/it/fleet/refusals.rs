//! Jobs that the queen answers with a failure: each once, with an event, and never one that a worker runs.

use std::time::SystemTime;

use async_nats::HeaderMap;
use futures::{StreamExt as _, future::join_all};
use rbee_nats::{Registry, recent_events};
use rbee_schema::{Chunk, FailureCode, JobEvent, Limits, ModelReference, ModelSpec, Replicas, Tenant};
use rbee_tests::{
    fleet::{Fleet, chat, whole},
    wait::{PATIENCE, eventually, soon},
};

fn failure_code(chunks: &[Chunk]) -> Option<FailureCode> {
    match chunks {
        [Chunk::Error { error }] => Some(error.code),
        _ => None,
    }
}

async fn queue_is_empty(fleet: &Fleet) {
    eventually("the queue is empty", PATIENCE, async || {
        fleet.bus.count_queue().await.is_ok_and(|count| count.depths.is_empty() && count.misnamed.is_empty())
    })
    .await;
}

#[tokio::test]
async fn withdrawn_declaration_lets_running_jobs_end() {
    let mut fleet = Fleet::bare().await;
    // A drain would return the job to the queue.
    fleet.set_variable("RBEE_TIMERS", "drain=10ms");
    fleet.queen().await;
    let ports = fleet.ports.range();
    fleet.hive("one", &ports).await;
    let reference = ModelReference::Mock("tokens=300,interval=10ms".to_owned());
    let replicas = Replicas { min: 1, max: 1 };
    fleet.serve("m", ModelSpec { slots: 1, replicas, ..ModelSpec::new(reference) }).await;
    fleet.ready(1).await;
    let (_, mut running) = fleet.submit("m", chat("Hi")).await;
    running.next(PATIENCE).await.expect("the answer begins");
    let (_, mut waiting) = fleet.submit("m", chat("Hi")).await;
    Registry::<ModelSpec>::models(&fleet.bus).remove("m").await.expect("the server answers");
    let refused = whole(&mut waiting).await;
    assert_eq!(failure_code(&refused), Some(FailureCode::UnknownModel), "{refused:?}");
    let (_, mut late) = fleet.submit("m", chat("Hi")).await;
    assert_eq!(failure_code(&whole(&mut late).await), Some(FailureCode::UnknownModel));
    let chunks = whole(&mut running).await;
    assert!(matches!(chunks.last(), Some(Chunk::Done { index: 300, .. })), "{:?}", chunks.last());
    assert!(!chunks.iter().any(|chunk| matches!(chunk, Chunk::Resumed { .. })), "the answer was interrupted");
    eventually("its worker is gone", PATIENCE, async || fleet.workers().await.is_empty()).await;
    queue_is_empty(&fleet).await;
}

#[tokio::test]
async fn refusals_take_a_constant_number_of_requests_each() {
    const JOBS: usize = 400;
    let mut fleet = Fleet::bare().await;
    fleet.queen().await;
    let mut requests = fleet.bus.subscribe("$JS.API.>".to_owned()).await.expect("subscribed");
    let mut ends = fleet.bus.subscribe("rbee.out.>".to_owned()).await.expect("subscribed");
    let body = chat("Hi").to_string();
    let publish = async |_| fleet.bus.jetstream().publish("rbee.submit.nobody", body.clone().into()).await;
    for sent in join_all((0..JOBS).map(publish)).await {
        sent.expect("sent").await.expect("stored");
    }
    for _ in 0..JOBS {
        soon("refusal", ends.next()).await.expect("a message");
    }
    queue_is_empty(&fleet).await;
    // Everything that was requested so far arrives before the answer to this request.
    fleet.bus.round_trip().await.expect("the server answers");
    let mut count = 0;
    while let Some(Some(_)) = futures::FutureExt::now_or_never(requests.next()) {
        count += 1;
    }
    assert!(count < 4 * JOBS, "{count} requests for {JOBS} jobs");
    let events = recent_events(&fleet.bus, "rbee.evt.job.default.*.failed", SystemTime::UNIX_EPOCH).await;
    assert_eq!(events.expect("the server answers").len(), JOBS);
}

#[tokio::test]
async fn misnamed_job_is_answered_with_an_event_and_removed() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=2", 0, 1).await;
    fleet.declared(&["m"]).await;
    for (subject, id, awaited) in [
        ("rbee.submit.modèle", "a", "rbee.out.default.a"),
        ("rbee.job.m.interactive.té", "b", "rbee.out.té.b"),
        ("rbee.submit.m", "c.d", "rbee.out.default.c.d"),
    ] {
        let mut output = fleet.bus.subscribe(awaited.to_owned()).await.expect("subscribed");
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", id);
        let sent = fleet.bus.jetstream().publish_with_headers(subject, headers, chat("Hi").to_string().into()).await;
        sent.expect("sent").await.expect("stored");
        let answer = soon("refusal", output.next()).await.expect("a message");
        let chunk: Chunk = serde_json::from_slice(&answer.payload).expect("a chunk");
        assert!(matches!(&chunk, Chunk::Error { error } if error.code == FailureCode::InvalidRequest), "{chunk:?}");
    }
    queue_is_empty(&fleet).await;
    eventually("each refusal is an event", PATIENCE, async || {
        let events = recent_events(&fleet.bus, "rbee.evt.job.*.*.failed", SystemTime::UNIX_EPOCH).await;
        events.is_ok_and(|events| events.len() == 3)
    })
    .await;
}

#[tokio::test]
async fn misnamed_job_from_before_the_queen_is_answered_too() {
    let mut fleet = Fleet::bare().await;
    let mut output = fleet.bus.subscribe("rbee.out.té.*".to_owned()).await.expect("subscribed");
    let sent = fleet.bus.jetstream().publish("rbee.job.m.batch.té", chat("Hi").to_string().into()).await;
    sent.expect("sent").await.expect("stored");
    fleet.queen().await;
    soon("refusal", output.next()).await.expect("a message");
    queue_is_empty(&fleet).await;
}

#[tokio::test]
async fn id_that_comes_again_after_its_answer_is_refused_clearly() {
    let mut fleet = Fleet::bare().await;
    fleet.queen().await;
    let ports = fleet.ports.range();
    fleet.hive("one", &ports).await;
    fleet.serve_mock("m", "tokens=2", 1, 1).await;
    // Ids of jobs are forgotten at once.
    let stream = fleet.bus.jetstream().get_stream("rbee_jobs").await.expect("the stream exists");
    let mut config = stream.cached_info().config.clone();
    config.duplicate_window = std::time::Duration::from_millis(100);
    fleet.bus.jetstream().update_stream(config).await.expect("the server accepts the change");
    let (job, mut output) = fleet.submit("m", chat("Hi")).await;
    let answer = whole(&mut output).await;
    assert!(matches!(answer.last(), Some(Chunk::Done { .. })), "{answer:?}");
    let mut live = fleet.bus.subscribe(format!("rbee.out.default.{job}")).await.expect("subscribed");
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", job.as_str());
    let body = chat("Hi").to_string();
    eventually("the id is stored again", PATIENCE, async || {
        let sent =
            fleet.bus.jetstream().publish_with_headers("rbee.submit.m", headers.clone(), body.clone().into()).await;
        sent.expect("sent").await.is_ok_and(|stored| !stored.duplicate)
    })
    .await;
    let told = soon("refusal", live.next()).await.expect("a message");
    let told: Chunk = serde_json::from_slice(&told.payload).expect("a chunk");
    assert!(matches!(&told, Chunk::Error { error } if error.code == FailureCode::DuplicateJob), "{told:?}");
    queue_is_empty(&fleet).await;
    let kept = fleet.bus.stored_output(&Tenant::default(), &job, 0).await.expect("the server answers");
    assert_eq!(kept.len(), answer.len(), "the first answer is kept");
    let events = recent_events(&fleet.bus, &format!("rbee.evt.job.default.{job}.failed"), SystemTime::UNIX_EPOCH).await;
    let event = events.expect("the server answers").pop().expect("an event");
    let event: JobEvent = serde_json::from_slice(&event.body).expect("an event");
    assert!(
        matches!(&event, JobEvent::Failed { failure, .. } if failure.code == FailureCode::DuplicateJob),
        "{event:?}"
    );
}

#[tokio::test]
async fn job_that_nobody_can_serve_is_refused_in_time_unless_it_is_batch() {
    let mut fleet = Fleet::bare().await;
    fleet.queen_named("queen", "unserved=1s").await;
    fleet.serve_mock("m", "tokens=2", 0, 1).await;
    let sent = fleet.bus.jetstream().publish("rbee.job.m.batch.default", chat("Hi").to_string().into()).await;
    let batch = sent.expect("sent").await.expect("stored").sequence.to_string();
    let (_, mut output) = fleet.submit("m", chat("Hi")).await;
    let chunks = whole(&mut output).await;
    assert_eq!(failure_code(&chunks), Some(FailureCode::NoCapacity), "{chunks:?}");

    // The batch job waits for the first hive.
    let ports = fleet.ports.range();
    fleet.hive("one", &ports).await;
    let mut output = fleet.bus.read_output(&Tenant::default(), &batch.parse().expect("a name")).await.expect("opened");
    let chunks = whole(&mut output).await;
    assert!(matches!(chunks.last(), Some(Chunk::Done { .. })), "{chunks:?}");

    let limits = Limits { memory: Some("999TiB".parse().expect("a size")), ..Limits::default() };
    let replicas = Replicas { min: 0, max: 1 };
    fleet.serve("huge", ModelSpec { limits, replicas, ..ModelSpec::new(ModelReference::Mock(String::new())) }).await;
    let (_, mut output) = fleet.submit("huge", chat("Hi")).await;
    let chunks = whole(&mut output).await;
    assert!(matches!(failure_code(&chunks), Some(FailureCode::NoCapacity | FailureCode::MemoryShort)), "{chunks:?}");
}
