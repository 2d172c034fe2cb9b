//! Deliveries of a job beyond the first: by the server after its redelivery timeout, by a hive, and to the same worker.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy};
use futures::StreamExt as _;
use rbee_nats::{EventReader, OutputReader, Plan, Submission};
use rbee_schema::{
    Chunk, JobClass, JobId, JobInFlight, ModelReference, ModelSpec, Tenant, WorkerEvent, WorkerHeartbeat,
};
use rbee_tests::{
    fleet::{Fleet, chat, signal, tokens, whole},
    wait::{PATIENCE, eventually, hold_fault, soon},
};

/// A server, and a hive with these timers and settings of its workers.
async fn hive(timers: &str, worker_settings: &str) -> Fleet {
    let mut fleet = Fleet::bare().await;
    let mut hive = fleet.hive_one(timers);
    hive.arguments = ["--worker-settings", worker_settings].map(str::to_owned).to_vec();
    fleet.start_hive(&hive).await;
    fleet
}

/// Starts a worker of the mock engine with two slots, and returns its process number.
async fn two_slots(fleet: &Fleet, worker: &str, options: &str) -> u32 {
    let spec = ModelSpec { slots: 2, ..ModelSpec::new(ModelReference::Mock(options.to_owned())) };
    fleet.spawn(worker, "m", spec).await;
    fleet.ready_in(worker, 1).await.pid.expect("it has a process")
}

async fn begun(output: &mut OutputReader) -> Chunk {
    soon("first chunk", output.next(PATIENCE)).await.expect("the answer begins").expect("it has no end yet").chunk
}

fn resume_count(chunks: &[Chunk]) -> usize {
    chunks.iter().filter(|chunk| matches!(chunk, Chunk::Resumed { .. })).count()
}

/// Waits until the log of worker `w` has this text `count` times.
async fn logged(fleet: &Fleet, text: &str, count: usize) {
    let log = fleet.folder().join("one/logs/w.log");
    eventually(&format!("the log has {count} times: {text}"), PATIENCE, async || {
        std::fs::read_to_string(&log).is_ok_and(|log| log.matches(text).count() >= count)
    })
    .await;
}

#[tokio::test]
async fn late_kill_of_a_frozen_worker_disturbs_no_later_delivery() {
    let fleet = hive("suspect=1500ms,silent=6s", "").await;
    fleet.limit_bus("redelivery=2s").await;
    let frozen = two_slots(&fleet, "a", "tokens=60,interval=200ms").await;
    let (_, mut output) = fleet.submit("m", chat("Hi")).await;
    assert!(matches!(begun(&mut output).await, Chunk::Started { .. }));
    two_slots(&fleet, "b", "tokens=60,interval=200ms").await;
    let filter = "rbee.evt.worker.one.a.exited";
    let mut exits = EventReader::since(&fleet.bus, filter, None).await.expect("the server answers");
    signal(frozen, "STOP");
    let exit = soon("exit", exits.next()).await.expect("the server answers").expect("an event");
    let exit: WorkerEvent = serde_json::from_slice(&exit.body).expect("an event of a worker");
    assert!(matches!(exit, WorkerEvent::Exited { .. }), "{exit:?}");
    let chunks = whole(&mut output).await;
    assert!(matches!(chunks.last(), Some(Chunk::Done { .. })), "{:?}", chunks.last());
    assert_eq!(resume_count(&chunks), 1, "the server gave the job to the second worker, and nobody to a third slot");
}

#[tokio::test]
async fn second_delivery_to_a_worker_keeps_its_claim() {
    let fleet = hive("", "").await;
    let pid = two_slots(&fleet, "w", "tokens=100000,interval=10ms,context=200000").await;
    let mut beats = fleet.bus.subscribe("rbee.beat.one.w".to_owned()).await.expect("the server answers");
    let mut jobs = async || -> Vec<JobInFlight> {
        let beat = soon("heartbeat", beats.next()).await.expect("the subscription lives");
        serde_json::from_slice::<WorkerHeartbeat>(&beat.payload).expect("a heartbeat").jobs
    };
    let mut body = chat("Hi");
    body["max_tokens"] = 100_000.into();
    let (_, mut output) = fleet.submit("m", body).await;
    begun(&mut output).await;
    let mut first = Vec::new();
    while first.is_empty() {
        first = jobs().await;
    }
    // A stale nak, which the server honors.
    fleet.bus.nak(&first[0]).await.expect("the server answers");
    logged(&fleet, "another worker has continued the job", 1).await;
    let mut filter =
        EventReader::since(&fleet.bus, "rbee.evt.worker.one.w.exited", None).await.expect("the server answers");
    for _ in 0..3 {
        jobs().await;
    }
    signal(pid, "KILL");
    let exit = soon("exit", filter.next()).await.expect("the server answers").expect("an event");
    let exit: WorkerEvent = serde_json::from_slice(&exit.body).expect("an event of a worker");
    assert!(matches!(exit, WorkerEvent::Exited { jobs_returned: 1, .. }), "{exit:?}");
}

#[tokio::test]
async fn job_waits_while_its_stored_output_cannot_be_read() {
    let fleet = hive("first_backoff=50ms", "attempts=10").await;
    let pid = two_slots(&fleet, "w", "tokens=30,interval=100ms").await;
    let (job, mut output) = fleet.submit("m", chat("Hi")).await;
    begun(&mut output).await;
    fleet.bus.jetstream().delete_stream("rbee_output").await.expect("the server deletes it");
    signal(pid, "KILL");
    logged(&fleet, "failed to read what is stored of the job", 2).await;
    Plan::compute(&fleet.bus).await.expect("the server answers").apply(&fleet.bus).await.expect("the stream is made");
    let mut output = fleet.bus.read_output(&Tenant::default(), &job).await.expect("the server answers");
    let chunks = whole(&mut output).await;
    assert!(matches!(chunks.last(), Some(Chunk::Done { .. })), "{chunks:?}");
    assert_eq!(tokens(&chunks).len(), 30);
}

#[tokio::test]
async fn first_attempt_waits_for_the_stream_of_the_output() {
    let fleet = hive("", "").await;
    two_slots(&fleet, "w", "tokens=3").await;
    fleet.bus.jetstream().delete_stream("rbee_output").await.expect("the server deletes it");
    let (model, job) = ("m".parse().expect("a name"), JobId::generate());
    let (class, tenant, body) = (JobClass::Interactive, Tenant::default(), chat("Hi").to_string().into());
    fleet.bus.submit(Submission { model, class, tenant, job: job.clone(), body }).await.expect("accepted");
    // A worker that may have missed a cancellation reads first what is stored.
    logged(&fleet, "failed to ", 2).await;
    Plan::compute(&fleet.bus).await.expect("the server answers").apply(&fleet.bus).await.expect("the stream is made");
    let mut output = fleet.bus.read_output(&Tenant::default(), &job).await.expect("the server answers");
    let chunks = whole(&mut output).await;
    assert!(matches!(chunks.last(), Some(Chunk::Done { .. })), "{chunks:?}");
    assert_eq!(tokens(&chunks).len(), 3);
}

/// Time for which no output is stored: longer than a worker may have jobs and no progress.
const FULL: Duration = Duration::from_secs(6);

/// Downtime of the bus: longer than the grace period of the worker.
const AWAY: Duration = Duration::from_secs(8);

#[tokio::test]
async fn worker_survives_a_bus_that_is_away_for_longer_than_its_grace() {
    let mut fleet = hive("", "grace=5s").await;
    let pid = two_slots(&fleet, "w", "tokens=3").await;
    fleet.server.kill().await;
    hold_fault(AWAY).await;
    fleet.server.restart().await;
    let (_, mut output) = fleet.submit("m", chat("Hi")).await;
    assert!(matches!(whole(&mut output).await.last(), Some(Chunk::Done { .. })));
    let record = fleet.ready_in("w", 1).await;
    assert_eq!((record.pid, record.epoch), (Some(pid), 1), "it was neither drained nor started again");
}

#[tokio::test]
async fn worker_whose_output_is_not_stored_is_not_hung() {
    let fleet = hive("hang=2s", "").await;
    let pid = two_slots(&fleet, "w", "tokens=40,interval=5ms").await;
    let mut body = chat("Hi");
    // The engine makes no step beyond the last token.
    body["max_tokens"] = 40.into();
    let (_, mut output) = fleet.submit("m", body).await;
    begun(&mut output).await;
    let stream = fleet.bus.jetstream().get_stream("rbee_output").await.expect("the stream exists");
    let config = stream.cached_info().config.clone();
    let full = Config { max_bytes: 1, discard: DiscardPolicy::New, ..config.clone() };
    fleet.bus.jetstream().update_stream(full).await.expect("the server accepts it");
    logged(&fleet, "the append is retried", 1).await;
    hold_fault(FULL).await;
    fleet.bus.jetstream().update_stream(config).await.expect("the server accepts it");
    assert!(matches!(whole(&mut output).await.last(), Some(Chunk::Done { .. })));
    assert_eq!(fleet.ready_in("w", 1).await.pid, Some(pid), "the worker was not killed");
}
