//! Jobs that wait: found in the queue, cancelled, and answered without a worker.

use futures::StreamExt as _;
use rbee_nats::{Answered, Begun, Bus, JobFinder, Subject, Submission};
use rbee_schema::{Chunk, Failure, FailureCode, JobClass, Tenant, api::JobState};
use rbee_tests::{nats::NatsServer, wait::soon};

use crate::sample::{CHAT, done, job, model, name, pull, queue, submission, tokens};

/// Number of jobs that wait or run.
async fn depth(bus: &Bus) -> u64 {
    bus.queue_depths().await.expect("the server answers").into_iter().map(|(_, count)| count).sum()
}

/// Sequence of the oldest job in the queue.
async fn first_sequence(bus: &Bus) -> u64 {
    let stream = bus.jetstream().get_stream("rbee_jobs").await.expect("the stream exists");
    stream.cached_info().state.first_sequence
}

#[tokio::test]
async fn waiting_jobs_are_listed_oldest_first_until_dropped() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    bus.submit(submission("a")).await.expect("accepted");
    bus.submit(Submission { model: name("other"), ..submission("b") }).await.expect("accepted");
    bus.submit(Submission { class: JobClass::Batch, tenant: name("acme"), ..submission("c") }).await.expect("accepted");
    let waiting = async || {
        let jobs = bus.queued_jobs(&bus.namespace().jobs_of_model(&model()), 1).await.expect("the server answers");
        jobs.into_iter().map(|job| (job.sequence, job.tenant, job.job)).collect::<Vec<_>>()
    };
    let first = first_sequence(&bus).await;
    assert_eq!(waiting().await, [(first, Tenant::default(), name("a")), (first + 2, name("acme"), name("c"))]);

    bus.drop_job(first).await.expect("dropped");
    bus.drop_job(first).await.expect("it is removed already");
    assert_eq!(waiting().await, [(first + 2, name("acme"), name("c"))]);
}

#[tokio::test]
async fn long_queue_is_read_in_batches() {
    const JOBS: u64 = 1_203;
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let mut stored = Vec::new();
    for _ in 0..JOBS {
        stored.push(bus.jetstream().publish("rbee.submit.smollm2", CHAT.into()).await.expect("sent"));
    }
    for acknowledgement in stored {
        acknowledgement.await.expect("stored");
    }
    let (mut sequences, mut from, mut batches) = (Vec::new(), 1, 0);
    loop {
        let batch = bus.queued_jobs(&bus.namespace().jobs_of_model(&model()), from).await.expect("the server answers");
        let Some(last) = batch.last() else { break };
        from = last.sequence + 1;
        batches += 1;
        sequences.extend(batch.iter().map(|job| job.sequence));
    }
    let first = first_sequence(&bus).await;
    assert_eq!(sequences, (first..first + JOBS).collect::<Vec<u64>>());
    assert!(batches <= 5, "{batches} batches");
}

#[tokio::test]
async fn queued_job_is_found_by_its_tenant_and_id() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let finder = JobFinder::start(&bus);
    let find = async |tenant: &str, job: &str| {
        let found = finder.find(&name(tenant), &name(job)).await.expect("the server answers");
        found.map(|found| found.sequence)
    };
    bus.submit(submission("a")).await.expect("accepted");
    let first = first_sequence(&bus).await;
    assert_eq!(
        (find("default", "a").await, find("acme", "a").await, find("default", "b").await),
        (Some(first), None, None)
    );
    bus.submit(submission("b")).await.expect("accepted");
    assert_eq!(find("default", "b").await, Some(first + 1), "it was queued after the first look-up");
    let sent = bus.jetstream().publish("rbee.submit.smollm2", CHAT.into()).await.expect("sent");
    let sequence = sent.await.expect("stored").sequence;
    assert_eq!(find("default", &sequence.to_string()).await, Some(sequence));
    bus.drop_job(first).await.expect("dropped");
    assert_eq!(find("default", "a").await, None);
}

#[tokio::test]
async fn state_of_a_job_follows_from_queue_and_output() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let (finder, tenant, job) = (JobFinder::start(&bus), Tenant::default(), name("a"));
    let state = async || bus.job_state(&finder, &tenant, &job).await.expect("the server answers");
    assert_eq!(state().await, None);
    bus.submit(submission("a")).await.expect("accepted");
    assert_eq!(state().await, Some(JobState::Queued));
    let first = bus.append(&tenant, &job, &tokens(0), 0).await.expect("appended");
    assert_eq!(state().await, Some(JobState::Running));
    bus.append(&tenant, &job, &done(1), first).await.expect("appended");
    assert_eq!(state().await, Some(JobState::Finished));
    bus.drop_job(first_sequence(&bus).await).await.expect("dropped");
    assert_eq!(state().await, Some(JobState::Finished));
}

#[tokio::test]
async fn cancellation_is_stored_for_whoever_receives_the_job_next() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    bus.submit(submission("a")).await.expect("accepted");
    let mut queue = queue(&bus).await;
    let first = pull(&mut queue).await;
    assert!(!bus.is_cancelled(&first).await.expect("the server answers"));
    bus.cancel(&first.tenant, &first.job).await.expect("stored");
    first.nak().await.expect("returned");
    let second = pull(&mut queue).await;
    assert!(second.attempt == 2 && bus.is_cancelled(&second).await.expect("the server answers"));
}

#[tokio::test]
async fn cancellation_of_an_invented_id_spares_a_later_job() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    bus.cancel(&Tenant::default(), &name("a")).await.expect("stored");
    bus.submit(submission("a")).await.expect("accepted");
    let delivery = pull(&mut queue(&bus).await).await;
    assert!(!bus.is_cancelled(&delivery).await.expect("the server answers"));
}

#[tokio::test]
async fn job_that_a_worker_has_begun_is_not_answered_by_others() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let (tenant, job) = job("a");
    bus.submit(submission("a")).await.expect("accepted");
    bus.append(&tenant, &job, &tokens(0), 0).await.expect("appended");
    let queued = bus.queued_job_at(first_sequence(&bus).await).await.expect("the server answers").expect("it waits");
    let failure = Failure::new(FailureCode::UnknownModel, "none");
    let answered = async |begun| bus.answer(&queued, &failure, begun).await.expect("the server answers");
    assert_eq!((answered(Begun::Leave).await, depth(&bus).await), (Answered::Begun, 1));
    assert_eq!((answered(Begun::Answer).await, depth(&bus).await), (Answered::Yes, 0));
    let output = bus.stored_output(&tenant, &job, 0).await.expect("the server answers");
    assert!(matches!(&output[..], [_, last] if last.chunk == Chunk::Error { error: failure }), "{output:?}");
}

#[tokio::test]
async fn id_that_was_used_before_is_refused_and_its_output_kept() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let (tenant, job) = job("a");
    let mut live = bus.subscribe("rbee.out.default.a".to_owned()).await.expect("subscribed");
    bus.append(&tenant, &job, &done(0), 0).await.expect("appended");
    soon("chunk", live.next()).await.expect("a message");
    bus.submit(submission("a")).await.expect("accepted");
    let queued = bus.queued_job_at(first_sequence(&bus).await).await.expect("the server answers").expect("it waits");
    let failure = Failure::new(FailureCode::UnknownModel, "none");
    assert_eq!(bus.answer(&queued, &failure, Begun::Answer).await.expect("the server answers"), Answered::Yes);
    let told = soon("refusal", live.next()).await.expect("a message");
    let told: Chunk = serde_json::from_slice(&told.payload).expect("a chunk");
    assert!(matches!(&told, Chunk::Error { error } if error.code == FailureCode::DuplicateJob), "{told:?}");
    let output = bus.stored_output(&tenant, &job, 0).await.expect("the server answers");
    assert_eq!((output.len(), depth(&bus).await), (1, 0));
}

#[tokio::test]
async fn cancellation_reaches_its_subscribers() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let mut cancels = bus.subscribe(bus.namespace().all_cancels()).await.expect("subscribed");
    bus.cancel(&name("acme"), &name("a")).await.expect("sent");
    let received = soon("cancellation", cancels.next()).await.expect("a message");
    assert_eq!(bus.parse(&received.subject), Some(Subject::Cancel(name("acme"), name("a"))));
}
