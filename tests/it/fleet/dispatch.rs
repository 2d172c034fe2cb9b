//! Dispatch: classes and tenants share the slots of workers, and workers keep what they need to pull jobs.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, future::join_all};
use rbee_nats::{Bus, OutputReader, Plan, Submission};
use rbee_schema::{Chunk, HiveCommand, JobClass, JobId, ModelReference, ModelSpec, StopMode, Tenant, WorkerRecord};
use rbee_tests::{
    fleet::{Fleet, HiveSetup, chat, text, tokens, whole},
    wait::{PATIENCE, eventually, soon},
};

/// A hive with one worker of the mock engine, and no queen.
async fn worker(options: &str, slots: u32, settings: &str) -> (Fleet, WorkerRecord) {
    let mut fleet = Fleet::bare().await;
    let arguments = vec!["--worker-settings".to_owned(), settings.to_owned()];
    let setup = HiveSetup { arguments, ..fleet.hive_one("") };
    fleet.start_hive(&setup).await;
    let spec = ModelSpec { slots, ..ModelSpec::new(ModelReference::Mock(options.to_owned())) };
    fleet.spawn("w", "m", spec).await;
    let record = fleet.ready_in("w", 1).await;
    (fleet, record)
}

/// Submits a chat.
async fn submit(bus: &Bus, class: JobClass, tenant: &str, content: &str) -> OutputReader {
    submit_body(bus, class, tenant, &chat(content)).await
}

async fn submit_body(bus: &Bus, class: JobClass, tenant: &str, body: &serde_json::Value) -> OutputReader {
    let (tenant, job): (Tenant, _) = (tenant.parse().expect("a name"), JobId::generate());
    let output = bus.read_output(&tenant, &job).await.expect("subscribed");
    let (model, body) = ("m".parse().expect("a name"), body.to_string().into());
    bus.submit(Submission { model, class, tenant, job, body }).await.expect("accepted");
    output
}

fn is_done(chunks: &[Chunk]) -> bool {
    matches!(chunks.last(), Some(Chunk::Done { .. }))
}

/// True if the payload is the last chunk of a complete answer.
fn is_last(payload: &[u8]) -> bool {
    serde_json::from_slice(payload).is_ok_and(|chunk: Chunk| is_done(&[chunk]))
}

#[tokio::test]
async fn batch_jobs_run_as_fast_as_interactive_ones_when_slots_are_free() {
    let (fleet, _) = worker("tokens=3", 2, "").await;
    let mut took = Vec::new();
    for class in [JobClass::Interactive, JobClass::Batch] {
        let began = Instant::now();
        let jobs = (0..40).map(async |_| whole(&mut submit(&fleet.bus, class, "default", "Hi").await).await);
        assert!(join_all(jobs).await.iter().all(|chunks| is_done(chunks)));
        took.push(began.elapsed());
    }
    println!("40 interactive jobs: {:?}, 40 batch jobs: {:?}", took[0], took[1]);
    assert!(took[1] < took[0] * 4 + Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn interactive_job_takes_the_slot_of_a_batch_job_which_resumes() {
    let (fleet, _) = worker("tokens=400,interval=10ms", 1, "").await;
    let mut body = chat("Hi");
    body["seed"] = 7.into();
    let undisturbed = whole(&mut submit_body(&fleet.bus, JobClass::Batch, "default", &body).await).await;
    let mut batch = submit_body(&fleet.bus, JobClass::Batch, "default", &body).await;
    let begun = batch.next(PATIENCE).await.expect("the answer continues").expect("the answer begins").chunk;
    let mut interactive = submit(&fleet.bus, JobClass::Interactive, "default", "mock: tokens=5").await;
    assert!(is_done(&whole(&mut interactive).await));
    let mut chunks = vec![begun];
    chunks.extend(whole(&mut batch).await);
    assert!(is_done(&chunks), "{:?}", chunks.last());
    let count = |is: fn(&Chunk) -> bool| chunks.iter().filter(|chunk| is(chunk)).count();
    assert_eq!(count(|chunk| matches!(chunk, Chunk::Paused { .. })), 1);
    assert_eq!(count(|chunk| matches!(chunk, Chunk::Resumed { .. })), 1);
    assert_eq!(tokens(&chunks).len(), 400);
    assert_eq!(text(&chunks), text(&undisturbed));
    let indexes: Vec<u32> = tokens(&chunks).iter().map(|(index, _)| *index).collect();
    assert_eq!(indexes, (0..400).collect::<Vec<u32>>());
}

#[tokio::test]
async fn batch_job_advances_beside_endless_interactive_ones() {
    let (fleet, _) = worker("tokens=2,interval=1ms", 1, "batch_share=4").await;
    let endless = async {
        let clients = (0..4).map(async |_| {
            loop {
                whole(&mut submit(&fleet.bus, JobClass::Interactive, "default", "Hi").await).await;
            }
        });
        join_all(clients).await
    };
    let batches = async {
        for _ in 0..5 {
            assert!(is_done(&whole(&mut submit(&fleet.bus, JobClass::Batch, "default", "Hi").await).await));
        }
    };
    tokio::select! {
        _ = endless => {}
        () = batches => {}
    }
}

#[tokio::test]
async fn tenant_behind_a_crowd_is_served_next() {
    // The consumer of the single tenant is made within the time of a job or two.
    let (fleet, _) = worker("tokens=1,interval=40ms", 1, "").await;
    let mut answers = fleet.bus.subscribe("rbee.out.crowd.>".to_owned()).await.expect("subscribed");
    let crowd = |number: usize| Submission {
        model: "m".parse().expect("a name"),
        class: JobClass::Interactive,
        tenant: "crowd".parse().expect("a name"),
        job: format!("job-{number}").parse().expect("a name"),
        body: chat("Hi").to_string().into(),
    };
    let mut stored =
        futures::stream::iter(0..10_000).map(|number| fleet.bus.submit(crowd(number))).buffer_unordered(256);
    while let Some(accepted) = stored.next().await {
        accepted.expect("accepted");
    }
    for _ in 0..3 {
        let mut single = submit(&fleet.bus, JobClass::Interactive, "single", "Hi").await;
        let mut before = 0;
        let answered = whole(&mut single);
        tokio::pin!(answered);
        // Answers that came before this job was submitted are not counted.
        while let Some(Some(_)) = futures::FutureExt::now_or_never(answers.next()) {}
        let chunks = loop {
            tokio::select! {
                biased;
                Some(message) = answers.next() => before += usize::from(is_last(&message.payload)),
                chunks = &mut answered => break chunks,
            }
        };
        assert!(is_done(&chunks));
        assert!(before <= 3, "{before} jobs of the crowd were answered before");
    }
}

#[tokio::test]
async fn idle_worker_sends_no_requests() {
    let (fleet, _) = worker("tokens=1", 4, "").await;
    assert!(is_done(&whole(&mut submit(&fleet.bus, JobClass::Batch, "default", "Hi").await).await));
    let stream = fleet.bus.jetstream().get_stream("rbee_jobs").await.expect("the stream exists");
    for class in JobClass::ALL {
        eventually("the worker waits for jobs of both classes", PATIENCE, async || {
            stream.consumer_info(format!("m={class}=default")).await.is_ok_and(|info| info.num_waiting == 1)
        })
        .await;
    }
    let mut requests = fleet.bus.subscribe("$JS.API.>".to_owned()).await.expect("subscribed");
    let mut beats = fleet.bus.subscribe("rbee.beat.one.w".to_owned()).await.expect("subscribed");
    let mut beaten = 0;
    while beaten < 5 {
        tokio::select! {
            request = requests.next() => {
                let subject = request.expect("the connection is open").subject;
                assert!(!subject.contains("rbee_jobs"), "{subject}");
            }
            beat = soon("heartbeat", beats.next()) => {
                beat.expect("the connection is open");
                beaten += 1;
            }
        }
    }
}

#[tokio::test]
async fn worker_makes_its_deleted_consumers_again() {
    let (fleet, _) = worker("tokens=1", 1, "").await;
    let stream = fleet.bus.jetstream().get_stream("rbee_jobs").await.expect("the stream exists");
    for class in JobClass::ALL {
        let consumer = format!("m={class}=default");
        eventually("the consumer exists", PATIENCE, async || stream.delete_consumer(&consumer).await.is_ok()).await;
        assert!(is_done(&whole(&mut submit(&fleet.bus, class, "default", "Hi").await).await));
    }
}

#[tokio::test]
async fn worker_waits_for_a_missing_stream_and_says_so() {
    let (fleet, record) = worker("tokens=1", 1, "").await;
    let url = format!("http://127.0.0.1:{}/healthz", record.port.expect("it has a port"));
    let health = async || reqwest::get(&url).await.expect("it answers").status().as_u16();
    fleet.bus.jetstream().delete_stream("rbee_jobs").await.expect("deleted");
    eventually("the worker says that it has no queue", PATIENCE, async || health().await == 424).await;
    Plan::compute(&fleet.bus).await.expect("compared").apply(&fleet.bus).await.expect("the stream is made again");
    assert!(is_done(&whole(&mut submit(&fleet.bus, JobClass::Interactive, "default", "Hi").await).await));
    assert_eq!(health().await, 200);
    assert_eq!(fleet.record("w").await.map(|record| record.epoch), Some(1), "it was not restarted");
}

#[tokio::test]
async fn drained_worker_leaves_no_job_behind() {
    let (fleet, _) = worker("tokens=2,interval=5ms", 2, "").await;
    let jobs = (0..30).map(|_| submit(&fleet.bus, JobClass::Interactive, "default", "Hi"));
    let mut answers = join_all(jobs).await;
    let worker = "w".parse().expect("a name");
    fleet.command_hive_one(&HiveCommand::Stop { worker, mode: StopMode::Drain, why: String::new() }).await;
    eventually("the worker has ended", PATIENCE, async || fleet.record("w").await.is_none()).await;
    let spec = ModelSpec { slots: 2, ..ModelSpec::new(ModelReference::Mock("tokens=2".to_owned())) };
    fleet.spawn("x", "m", spec).await;
    let began = Instant::now();
    for answer in &mut answers {
        assert!(is_done(&whole(answer).await));
    }
    assert!(began.elapsed() < Duration::from_secs(9), "no job waited for its redelivery timeout of 10 s");
}
