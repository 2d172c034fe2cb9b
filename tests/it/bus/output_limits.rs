//! Output at its limits: old, deleted, full, and too large.

use std::time::Duration;

use rbee_nats::{AppendError, Bus, BusLimits, OutputReadError, Plan, StoredChunk};
use rbee_schema::{Chunk, Failure, FailureCode, JobId, Tenant};
use rbee_tests::{
    nats::NatsServer,
    wait::{PATIENCE, eventually},
};

use crate::sample::{done, job, submission, tokens};

async fn limit(bus: &Bus, limits: &str) {
    let limits: BusLimits = limits.parse().expect("limits");
    let plan = Plan::with_limits(bus, &limits).await.expect("the server answers");
    plan.apply(bus).await.expect("the server accepts it");
}

/// Appends an answer of `count` tokens without its end.
async fn begin(bus: &Bus, (tenant, job): &(Tenant, JobId), count: u32) -> u64 {
    let mut last = 0;
    for index in 0..count {
        last = bus.append(tenant, job, &tokens(index), last).await.expect("appended");
    }
    last
}

async fn answer(bus: &Bus, (tenant, job): &(Tenant, JobId), count: u32) {
    let last = begin(bus, &(tenant.clone(), job.clone()), count).await;
    bus.append(tenant, job, &done(count), last).await.expect("appended");
}

async fn stored(bus: &Bus, (tenant, job): &(Tenant, JobId)) -> Vec<Chunk> {
    let stored = bus.stored_output(tenant, job, 0).await.expect("read");
    stored.into_iter().map(|StoredChunk { chunk, .. }| chunk).collect()
}

/// Deletes everything in the output stream before this sequence.
async fn delete_before(bus: &Bus, sequence: u64) {
    let stream = bus.jetstream().get_stream("rbee_output").await.expect("the stream exists");
    stream.purge().sequence(sequence).await.expect("purged");
}

#[tokio::test]
async fn output_of_answered_jobs_is_deleted_at_its_age() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    limit(&bus, "output_age=1ms").await;
    answer(&bus, &job("answered"), 3).await;
    eventually("the old output is deleted", PATIENCE, async || {
        bus.prune_output().await.expect("the server answers");
        stored(&bus, &job("answered")).await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn output_of_a_job_in_the_queue_is_kept_whatever_its_age() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    limit(&bus, "output_age=1ms").await;
    answer(&bus, &job("answered"), 3).await;
    bus.submit(submission("waiting")).await.expect("accepted");
    bus.submit(submission("running")).await.expect("accepted");
    begin(&bus, &job("running"), 3).await;
    answer(&bus, &job("later"), 3).await;
    eventually("the old output is deleted", PATIENCE, async || {
        bus.prune_output().await.expect("the server answers");
        stored(&bus, &job("answered")).await.is_empty()
    })
    .await;
    assert_eq!(stored(&bus, &job("running")).await, [tokens(0), tokens(1), tokens(2)]);
    assert_eq!(stored(&bus, &job("later")).await.len(), 4, "it is younger than a job that runs");
}

#[tokio::test]
async fn young_output_of_answered_jobs_is_deleted_from_a_nearly_full_stream() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    limit(&bus, "output_size=64KiB").await;
    let name = |index: u32| job(&format!("job-{index}"));
    let mut answered = 0;
    while !bus.prune_output().await.expect("the server answers").deleted.gt(&0) {
        answer(&bus, &name(answered), 10).await;
        answered += 1;
        assert!(answered < 1000, "the stream is full and nothing was deleted");
    }
    assert!(stored(&bus, &name(0)).await.is_empty(), "the oldest is deleted first");
    assert_eq!(stored(&bus, &name(answered - 1)).await.len(), 11, "the newest is kept");
    let usage = bus.prune_output().await.expect("the server answers");
    assert!(!usage.is_nearly_full() && usage.deleted == 0, "{usage:?}");
}

#[tokio::test]
async fn full_output_stream_refuses_chunks_and_keeps_those_of_running_jobs() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    limit(&bus, "output_size=16KiB").await;
    bus.submit(submission("running")).await.expect("accepted");
    let (tenant, id) = job("running");
    let (mut last, mut index) = (0, 0);
    let refused = loop {
        match bus.append(&tenant, &id, &tokens(index), last).await {
            Ok(sequence) => (last, index) = (sequence, index + 1),
            Err(refused) => break refused,
        }
        assert!(index < 10_000, "the stream is never full");
    };
    assert!(matches!(refused, AppendError::Full(_)), "{refused}");
    let usage = bus.prune_output().await.expect("the server answers");
    assert!(usage.is_nearly_full() && usage.deleted == 0, "{usage:?}");
    assert_eq!(stored(&bus, &job("running")).await.len(), index as usize);
}

#[tokio::test]
async fn reader_that_is_too_late_gets_output_gone() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let (tenant, id) = job("a");
    let last = begin(&bus, &job("a"), 5).await;
    delete_before(&bus, last - 1).await;
    let mut late = bus.read_output(&tenant, &id).await.expect("subscribed");
    let error = late.next(PATIENCE).await.expect_err("the beginning is gone");
    assert!(matches!(error, OutputReadError::Gone(gone) if (gone.expected, gone.found) == (0, 3)), "{error}");
}

#[tokio::test]
async fn reader_notices_chunks_that_are_deleted_before_it_reads_them() {
    let mut server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let (tenant, id) = job("a");
    let mut follow = bus.read_output(&tenant, &id).await.expect("subscribed");
    let last = begin(&bus, &job("a"), 2).await;
    for expected in 0..2 {
        let chunk = follow.next(PATIENCE).await.expect("read").expect("a chunk").chunk;
        assert_eq!(chunk, tokens(expected));
    }
    // A connection that was lost reads what it missed from the stream.
    server.kill().await;
    server.restart().await;
    let other = server.connect("rbee").await;
    let third = other.append(&tenant, &id, &tokens(2), last).await.expect("appended");
    let fourth = other.append(&tenant, &id, &tokens(3), third).await.expect("appended");
    delete_before(&other, fourth).await;
    let read = loop {
        match follow.next(PATIENCE).await {
            Ok(Some(read)) if read.chunk == tokens(2) => {}
            read => break read,
        }
    };
    // The reader was quick and has read everything, or it reports the gap. It never skips.
    match read {
        Ok(Some(read)) => assert_eq!(read.chunk, tokens(3)),
        Ok(None) => panic!("the answer has no end"),
        Err(error) => assert!(matches!(error, OutputReadError::Gone(_)), "{error}"),
    }
}

#[tokio::test]
async fn chunk_larger_than_a_message_is_refused_for_good() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let (tenant, id) = job("a");
    let large = Chunk::tokens(0, vec![1], "a".repeat(2 << 20));
    let refused = bus.append(&tenant, &id, &large, 0).await.expect_err("too large for the server");
    assert!(matches!(refused, AppendError::TooLarge { size, .. } if size > 2 << 20), "{refused}");
    let stream = bus.jetstream().get_stream("rbee_output").await.expect("the stream exists");
    let mut small = stream.cached_info().config.clone();
    small.max_message_size = 1000;
    bus.jetstream().update_stream(small).await.expect("the server accepts it");
    let refused = bus.append(&tenant, &id, &Chunk::tokens(0, vec![1], "a".repeat(2000)), 0).await;
    assert!(matches!(refused, Err(AppendError::TooLarge { .. })), "{refused:?}");
}

#[tokio::test]
async fn failure_that_cannot_be_stored_reaches_those_who_listen() {
    let server = NatsServer::start().await;
    let (bus, worker) = (server.bus("rbee").await, server.connect("rbee").await);
    let (tenant, id) = job("a");
    let mut follow = bus.read_output(&tenant, &id).await.expect("subscribed");
    let failure = Failure::new(FailureCode::OutputFull, "full");
    let error = Chunk::Error { error: failure };
    worker.publish_unstored(&tenant, &id, &tokens(0)).await.expect("published");
    worker.publish_unstored(&tenant, &id, &error).await.expect("published");
    let read = follow.next(PATIENCE).await.expect("read").expect("a chunk").chunk;
    assert_eq!(read, error, "only failures are believed unstored");
    assert!(follow.next(Duration::from_secs(1)).await.expect("the end").is_none());
}
