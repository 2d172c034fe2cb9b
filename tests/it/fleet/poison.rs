//! Jobs that end their workers: each is given up after two workers, and nothing else suffers for it.

use rbee_nats::{EventReader, OutputReader};
use rbee_schema::{
    Chunk, DeadJob, FailureCode, JobBlame, JobEvent, ModelReference, ModelSpec, WorkerEvent, WorkerPhase,
};
use rbee_tests::{
    fleet::{Fleet, chat, text, tokens, whole},
    wait::{PATIENCE, eventually, soon},
};

/// Timers of a hive whose workers are started again quickly.
const TIMERS: &str = "first_backoff=50ms,backoff=100ms,backoff_most=200ms";

/// A server and a hive whose worker `w` serves model `m` with this number of slots.
async fn one_worker(options: &str, slots: u32) -> Fleet {
    let mut fleet = Fleet::bare().await;
    let mut hive = fleet.hive_one(TIMERS);
    hive.arguments = ["--worker-settings", "probation=200ms"].map(str::to_owned).to_vec();
    fleet.start_hive(&hive).await;
    let spec = ModelSpec { slots, ..ModelSpec::new(ModelReference::Mock(options.to_owned())) };
    fleet.spawn("w", "m", spec).await;
    fleet.ready_in("w", 1).await;
    fleet
}

fn seeded(content: &str, seed: u64) -> serde_json::Value {
    let mut body = chat(content);
    body["seed"] = seed.into();
    body
}

fn is_given_up(chunks: &[Chunk]) -> bool {
    matches!(chunks.last(), Some(Chunk::Error { error }) if error.code == FailureCode::TriedTooOften)
}

/// Waits until the answer has begun.
async fn begun(output: &mut OutputReader) {
    soon("first chunk", output.next(PATIENCE)).await.expect("the answer begins");
}

/// Exits of all workers so far.
async fn exits(fleet: &Fleet) -> Vec<WorkerEvent> {
    let since = std::time::SystemTime::UNIX_EPOCH;
    let records = rbee_nats::recent_events(&fleet.bus, "rbee.evt.worker.*.*.exited", since).await;
    let records = records.expect("the server answers");
    records.iter().map(|record| serde_json::from_slice(&record.body).expect("an event")).collect()
}

/// The dead letters of model `m`.
async fn dead_letters(fleet: &Fleet) -> Vec<DeadJob> {
    let stream = fleet.bus.jetstream().get_stream("rbee_dead").await.expect("the stream exists");
    let state = &stream.cached_info().state;
    let mut letters = Vec::new();
    for sequence in state.first_sequence..=state.last_sequence {
        let message = stream.get_raw_message(sequence).await.expect("it is stored");
        letters.push(serde_json::from_slice(&message.payload).expect("a dead letter"));
    }
    letters
}

#[tokio::test]
async fn poisoned_job_is_given_up_and_its_neighbours_finish() {
    let fleet = one_worker("tokens=30,interval=50ms", 8).await;
    let undisturbed = one_worker("tokens=30,interval=1ms", 8).await;
    let mut neighbours = Vec::new();
    for seed in 0..7 {
        let (_, mut output) = fleet.submit("m", seeded("Hi", seed)).await;
        begun(&mut output).await;
        neighbours.push(output);
    }
    let (job, mut poisoned) = fleet.submit("m", chat("mock: poison=1 interval=50ms")).await;
    assert!(is_given_up(&whole(&mut poisoned).await));
    for (seed, mut output) in (0..).zip(neighbours) {
        let chunks = whole(&mut output).await;
        let (_, mut expected) = undisturbed.submit("m", seeded("Hi", seed)).await;
        assert_eq!(text(&chunks), text(&whole(&mut expected).await), "seed {seed}: {chunks:?}");
        assert!(tokens(&chunks).iter().map(|(index, _)| *index).eq(0..30), "each token once");
    }
    let letters = dead_letters(&fleet).await;
    assert_eq!(letters.iter().map(|letter| &letter.job).collect::<Vec<_>>(), [&job]);
    let JobBlame { alone, together, signal, .. } = letters[0].blame.clone().expect("it is blamed");
    assert_eq!((alone, together, signal), (1, 1, Some(6)));
    assert_eq!(exits(&fleet).await.len(), 2, "two workers ended");
}

#[tokio::test]
async fn poisoned_job_ends_two_of_several_workers_and_no_neighbour() {
    let fleet = one_worker("tokens=40,interval=50ms", 4).await;
    let spec = ModelSpec { slots: 4, ..ModelSpec::new(ModelReference::Mock("tokens=40,interval=50ms".to_owned())) };
    fleet.spawn("v", "m", spec).await;
    fleet.ready_in("v", 1).await;
    let mut neighbours = Vec::new();
    for seed in 0..6 {
        let (_, mut output) = fleet.submit("m", seeded("Hi", seed)).await;
        begun(&mut output).await;
        neighbours.push(output);
    }
    let (_, mut poisoned) = fleet.submit("m", chat("mock: poison=1 interval=50ms")).await;
    assert!(is_given_up(&whole(&mut poisoned).await));
    for mut output in neighbours {
        let chunks = whole(&mut output).await;
        assert!(matches!(chunks.last(), Some(Chunk::Done { .. })), "{chunks:?}");
        assert!(tokens(&chunks).iter().map(|(index, _)| *index).eq(0..40), "each token once");
    }
    assert_eq!(exits(&fleet).await.len(), 2, "two workers ended");
}

#[tokio::test]
async fn job_that_crashes_while_it_is_prepared_ends_two_workers() {
    let fleet = one_worker("", 2).await;
    let (_, mut output) = fleet.submit("m", chat("mock: prepare-crash")).await;
    let chunks = whole(&mut output).await;
    assert!(is_given_up(&chunks) && chunks.len() == 1, "{chunks:?}");
    assert_eq!(exits(&fleet).await.len(), 2);
    let (_, mut output) = fleet.submit("m", chat("Hi")).await;
    assert!(matches!(whole(&mut output).await.last(), Some(Chunk::Done { .. })), "the model serves on");
}

#[tokio::test]
async fn poisoned_jobs_one_after_another_leave_the_model_serving() {
    let fleet = one_worker("tokens=3", 1).await;
    let mut outputs = Vec::new();
    for _ in 0..3 {
        outputs.push(fleet.submit("m", chat("mock: poison=0")).await.1);
        outputs.push(fleet.submit("m", chat("Hi")).await.1);
    }
    for (index, mut output) in outputs.into_iter().enumerate() {
        let chunks = whole(&mut output).await;
        match index % 2 {
            0 => assert!(is_given_up(&chunks), "{chunks:?}"),
            _ => assert!(matches!(chunks.last(), Some(Chunk::Done { .. })), "{chunks:?}"),
        }
    }
    assert_eq!(exits(&fleet).await.len(), 6);
    assert_eq!(fleet.ready_in("w", 7).await.exits, 0, "none of them counts for a crash loop");
}

#[tokio::test]
async fn worker_that_no_job_survives_becomes_a_crash_loop() {
    let fleet = one_worker("poison=0", 1).await;
    for _ in 0..8 {
        fleet.submit("m", chat("Hi")).await;
    }
    eventually("the worker is in a crash loop", PATIENCE, async || {
        fleet.record("w").await.is_some_and(|record| record.phase == WorkerPhase::CrashLoop)
    })
    .await;
    assert!(dead_letters(&fleet).await.len() < 6, "the other jobs wait");
}

#[tokio::test]
async fn killed_workers_blame_no_job() {
    let fleet = one_worker("tokens=60,interval=50ms", 1).await;
    let mut events = EventReader::since(&fleet.bus, "rbee.evt.job.>", None).await.expect("the server answers");
    let (_, mut output) = fleet.submit("m", chat("Hi")).await;
    begun(&mut output).await;
    for epoch in 1..=4 {
        let record = fleet.ready_in("w", epoch).await;
        eventually("the worker runs the job", PATIENCE, async || {
            let last = soon("event", events.next()).await.expect("the server answers").expect("an event");
            last.subject.ends_with(".started")
        })
        .await;
        rbee_tests::fleet::signal(record.pid.expect("it has a process"), "KILL");
    }
    let chunks = whole(&mut output).await;
    assert!(matches!(chunks.last(), Some(Chunk::Done { .. })), "{chunks:?}");
    let blamed = rbee_nats::recent_events(&fleet.bus, "rbee.evt.job.*.*.blamed", std::time::SystemTime::UNIX_EPOCH);
    assert!(blamed.await.expect("the server answers").is_empty());
}

#[tokio::test]
async fn panic_of_the_engine_ends_the_worker_and_another_continues() {
    let fleet = one_worker("tokens=20", 2).await;
    let (_, mut output) = fleet.submit("m", chat("mock: panic=7 tokens=20")).await;
    let chunks = whole(&mut output).await;
    assert!(matches!(chunks.last(), Some(Chunk::Done { .. })), "{chunks:?}");
    assert_eq!(tokens(&chunks).len(), 20);
    let exits = exits(&fleet).await;
    let [WorkerEvent::Exited { code: Some(70), stderr_tail, .. }] = exits.as_slice() else { panic!("{exits:?}") };
    assert!(stderr_tail.last().is_some_and(|line| line.contains("failed to run the engine")), "{stderr_tail:?}");
}

#[tokio::test]
async fn blame_event_names_the_exit_and_counts_the_company() {
    let fleet = one_worker("tokens=200,interval=20ms", 2).await;
    let mut events = EventReader::since(&fleet.bus, "rbee.evt.job.*.*.blamed", None).await.expect("the server answers");
    let (_, mut neighbour) = fleet.submit("m", chat("Hi")).await;
    begun(&mut neighbour).await;
    fleet.submit("m", chat("mock: crash=2 tokens=4 interval=20ms")).await;
    for _ in 0..2 {
        let record = soon("blame", events.next()).await.expect("the server answers").expect("an event");
        let event: JobEvent = serde_json::from_slice(&record.body).expect("an event of a job");
        let JobEvent::Blamed(JobBlame { company, alone, together, signal, .. }) = event else { panic!("{event:?}") };
        assert_eq!((company, alone, together, signal), (1, 0, 1, Some(6)));
    }
}

#[tokio::test]
async fn deeply_nested_grammar_is_refused_and_ends_no_worker() {
    let fleet = one_worker("", 2).await;
    let mut body = chat("Hi");
    let condition = format!("{}true{}", "not(".repeat(20_000), ")".repeat(20_000));
    body["structured_outputs"] = serde_json::json!({ "grammar": format!("start: \"a\" %if {condition}\n") });
    let (_, mut output) = fleet.submit("m", body).await;
    let chunks = whole(&mut output).await;
    let Some(Chunk::Error { error }) = chunks.last() else { panic!("{chunks:?}") };
    assert_eq!(error.code, FailureCode::InvalidRequest, "{error}");
    assert!(exits(&fleet).await.is_empty());
}
