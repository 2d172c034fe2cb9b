//! Output: appended by compare-and-set, and read so that every chunk arrives once and in order.

use std::time::Duration;

use async_nats::jetstream::stream::Config;
use futures::StreamExt as _;
use rbee_nats::{AppendError, Bus, OutputReadError, OutputReader, StoredChunk, Topology};
use rbee_schema::{Chunk, JobId, Tenant};
use rbee_tests::{
    nats::{NatsServer, connect},
    relay::Relay,
    wait::{PATIENCE, soon},
};
use tokio::time::Instant;

use crate::sample::{done, job, tokens};

/// Appends the tokens of `indices` and returns the sequence of the last.
async fn append(bus: &Bus, (tenant, job): &(Tenant, JobId), indices: std::ops::Range<u32>, mut last: u64) -> u64 {
    for index in indices {
        last = bus.append(tenant, job, &tokens(index), last).await.expect("appended");
    }
    last
}

/// Reads an answer to its end.
async fn read_to_the_end(follow: &mut OutputReader) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    while let Some(committed) = follow.next(PATIENCE).await.expect("the output continues") {
        chunks.push(committed.chunk);
    }
    chunks
}

/// All chunks of an answer of `count` tokens.
fn answer(count: u32) -> Vec<Chunk> {
    (0..count).map(tokens).chain([done(count)]).collect()
}

#[tokio::test]
async fn append_after_a_stale_sequence_is_refused_and_not_republished() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let (tenant, job) = job("a");
    let mut published = bus.subscribe(bus.namespace().all_published()).await.expect("subscribed");
    let first = bus.append(&tenant, &job, &tokens(0), 0).await.expect("appended");
    let second = bus.append(&tenant, &job, &tokens(1), first).await.expect("appended");
    for stale in [0, first, second + 1] {
        let refused = bus.append(&tenant, &job, &tokens(9), stale).await;
        assert!(matches!(refused, Err(AppendError::Stale)), "{stale}: {refused:?}");
    }
    bus.append(&tenant, &job, &done(2), second).await.expect("appended");

    let mut received = Vec::new();
    while received.len() < 3 {
        let message = soon("chunk", published.next()).await.expect("a message");
        assert_eq!(message.subject.as_str(), "rbee.out.default.a");
        received.push(serde_json::from_slice::<Chunk>(&message.payload).expect("a chunk"));
    }
    assert_eq!(received, answer(2));
}

#[tokio::test]
async fn one_of_two_concurrent_appends_is_refused() {
    let server = NatsServer::start().await;
    let (one, two) = (server.bus("rbee").await, server.connect("rbee").await);
    let (tenant, job) = job("a");
    let mut last = 0;
    for index in 0..50 {
        let chunk = tokens(index);
        let (by_one, by_two) =
            futures::join!(one.append(&tenant, &job, &chunk, last), two.append(&tenant, &job, &chunk, last));
        last = match (by_one, by_two) {
            (Ok(sequence), Err(AppendError::Stale)) | (Err(AppendError::Stale), Ok(sequence)) => sequence,
            both => panic!("one must win and one must be refused: {both:?}"),
        };
    }
    assert_eq!(one.stored_output(&tenant, &job, 0).await.expect("read").len(), 50);
}

#[tokio::test]
async fn outputs_of_two_jobs_do_not_fence_each_other() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let (one, two) = (job("a"), job("b"));
    let last = append(&bus, &one, 0..3, 0).await;
    append(&bus, &two, 0..3, 0).await;
    append(&bus, &one, 3..5, last).await;
    assert_eq!(bus.stored_output(&one.0, &one.1, 0).await.expect("read").len(), 5);
}

#[tokio::test]
async fn follower_gets_each_chunk_once_in_order_and_then_the_end() {
    let server = NatsServer::start().await;
    let (bus, worker) = (server.bus("rbee").await, server.connect("rbee").await);
    let (tenant, id) = job("a");
    let mut follow = bus.read_output(&tenant, &id).await.expect("subscribed");
    let last = append(&worker, &job("a"), 0..100, 0).await;
    worker.append(&tenant, &id, &done(100), last).await.expect("appended");
    assert_eq!(read_to_the_end(&mut follow).await, answer(100));
    assert!(follow.next(PATIENCE).await.expect("still the end").is_none());
}

#[tokio::test]
async fn late_follower_gets_earlier_chunks() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let (tenant, id) = job("a");
    let last = append(&bus, &job("a"), 0..5, 0).await;
    let mut follow = bus.read_output(&tenant, &id).await.expect("subscribed");
    let last = append(&bus, &job("a"), 5..10, last).await;
    bus.append(&tenant, &id, &done(10), last).await.expect("appended");
    assert_eq!(read_to_the_end(&mut follow).await, answer(10));

    let mut after_the_end = bus.read_output(&tenant, &id).await.expect("subscribed");
    assert_eq!(read_to_the_end(&mut after_the_end).await, answer(10));
}

#[tokio::test]
async fn follower_reconnects_without_losing_or_repeating_chunks() {
    let server = NatsServer::start().await;
    let worker = server.bus("rbee").await;
    let relay = Relay::start(server.url()).await;
    let client = connect(relay.url(), "rbee").await.expect("connected");
    let (tenant, id) = job("a");
    let mut follow = client.read_output(&tenant, &id).await.expect("subscribed");
    let mut online = client.online();
    let last = append(&worker, &job("a"), 0..5, 0).await;
    assert_eq!(soon("chunk", follow.next(PATIENCE)).await.expect("read").expect("a chunk").chunk, tokens(0));

    relay.cut();
    soon("loss of the connection", online.wait_for(|online| !online)).await.expect("the connection is ours");
    let last = append(&worker, &job("a"), 5..10, last).await;
    relay.restore();
    soon("return of the connection", online.wait_for(|online| *online)).await.expect("the connection is ours");

    let last = append(&worker, &job("a"), 10..15, last).await;
    worker.append(&tenant, &id, &done(15), last).await.expect("appended");
    assert_eq!(read_to_the_end(&mut follow).await, answer(15)[1..]);
}

#[tokio::test]
async fn follower_finds_last_chunks_lost_during_a_disconnect() {
    let server = NatsServer::start().await;
    let worker = server.bus("rbee").await;
    let relay = Relay::start(server.url()).await;
    let client = connect(relay.url(), "rbee").await.expect("connected");
    let (tenant, id) = job("a");
    let mut follow = client.read_output(&tenant, &id).await.expect("subscribed");
    let mut online = client.online();
    relay.cut();
    soon("loss of the connection", online.wait_for(|online| !online)).await.expect("the connection is ours");
    let last = append(&worker, &job("a"), 0..3, 0).await;
    worker.append(&tenant, &id, &done(3), last).await.expect("appended");
    relay.restore();
    soon("return of the connection", online.wait_for(|online| *online)).await.expect("the connection is ours");
    // No later chunk reveals the gap.
    assert_eq!(read_to_the_end(&mut follow).await, answer(3));
}

#[tokio::test]
async fn follower_continues_after_a_server_restart() {
    let mut server = NatsServer::start().await;
    let client = server.bus("rbee").await;
    let (tenant, id) = job("a");
    let mut follow = client.read_output(&tenant, &id).await.expect("subscribed");
    let last = append(&client, &job("a"), 0..5, 0).await;
    server.kill().await;
    server.restart().await;
    let worker = server.connect("rbee").await;
    let last = append(&worker, &job("a"), 5..10, last).await;
    worker.append(&tenant, &id, &done(10), last).await.expect("appended");
    assert_eq!(read_to_the_end(&mut follow).await, answer(10));
}

#[tokio::test]
async fn follower_timeout_is_reported_and_reading_may_continue() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let (tenant, id) = job("a");
    let mut follow = bus.read_output(&tenant, &id).await.expect("subscribed");
    let timed_out = follow.next(Duration::from_millis(100)).await;
    assert!(matches!(timed_out, Err(OutputReadError::TimedOut(_))), "{timed_out:?}");
    bus.append(&tenant, &id, &done(0), 0).await.expect("appended");
    assert_eq!(read_to_the_end(&mut follow).await, answer(0));
}

#[tokio::test]
async fn output_of_2500_chunks_is_readable_from_any_sequence() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let (tenant, id) = job("a");
    append(&bus, &job("a"), 0..2_500, 0).await;
    let whole = bus.stored_output(&tenant, &id, 0).await.expect("read");
    let chunks: Vec<Chunk> = whole.iter().map(|committed| committed.chunk.clone()).collect();
    assert_eq!(chunks, (0..2_500).map(tokens).collect::<Vec<_>>());

    let middle = whole[2_000].sequence;
    assert_eq!(bus.stored_output(&tenant, &id, middle).await.expect("read"), whole[2_000..]);
    assert_eq!(bus.stored_output(&tenant, &id, whole[2_499].sequence + 1).await.expect("read"), []);
}

#[tokio::test]
async fn job_without_output_reads_as_empty() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let (tenant, id) = job("a");
    append(&bus, &job("other"), 0..3, 0).await;
    assert_eq!(bus.stored_output(&tenant, &id, 0).await.expect("read"), []);
}

#[tokio::test]
async fn unreadable_chunk_is_skipped_and_still_fences() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let (tenant, id) = job("a");
    let mut follow = bus.read_output(&tenant, &id).await.expect("subscribed");
    let first = bus.append(&tenant, &id, &tokens(0), 0).await.expect("appended");
    let later = r#"{"type":"a-kind-of-a-later-version"}"#;
    let sent = bus.jetstream().publish("rbee.tok.default.a", later.into()).await.expect("sent");
    let unknown = sent.await.expect("stored").sequence;
    assert!(matches!(bus.append(&tenant, &id, &tokens(1), first).await, Err(AppendError::Stale)));
    let last = bus.append(&tenant, &id, &done(1), unknown).await.expect("appended");

    let expected = [StoredChunk { sequence: first, chunk: tokens(0) }, StoredChunk { sequence: last, chunk: done(1) }];
    assert_eq!(bus.stored_output(&tenant, &id, 0).await.expect("read"), expected);
    assert_eq!(read_to_the_end(&mut follow).await, answer(1));
}

#[tokio::test]
async fn follower_waits_for_a_server_that_is_down_beyond_a_request() {
    let mut server = NatsServer::start().await;
    let client = server.bus("rbee").await;
    let (tenant, id) = job("a");
    let mut patient = client.read_output(&tenant, &id).await.expect("subscribed");
    let mut impatient = client.read_output(&tenant, &id).await.expect("subscribed");
    let last = append(&client, &job("a"), 0..5, 0).await;
    for index in 0..5 {
        for follow in [&mut patient, &mut impatient] {
            let chunk = follow.next(PATIENCE).await.expect("read").expect("a chunk").chunk;
            assert_eq!(chunk, tokens(index));
        }
    }
    server.kill().await;
    let restarted = async {
        let timed_out = impatient.next(LONGER_THAN_A_REQUEST).await;
        assert!(matches!(timed_out, Err(OutputReadError::TimedOut(_))), "{timed_out:?}");
        server.restart().await;
        let worker = server.connect("rbee").await;
        worker.append(&tenant, &id, &done(5), last).await.expect("appended");
    };
    let (rest, ()) = futures::join!(read_to_the_end(&mut patient), restarted);
    assert_eq!(rest, answer(5)[5..]);
    assert_eq!(read_to_the_end(&mut impatient).await, answer(5)[5..]);
}

/// The request timeout is 8 s.
const LONGER_THAN_A_REQUEST: Duration = Duration::from_secs(10);

/// Turns the republishing of stored chunks on or off.
async fn set_republish(bus: &Bus, is_on: bool) {
    let stream = bus.jetstream().get_stream("rbee_output").await.expect("the stream exists");
    let ours = Topology::new(bus.namespace()).streams.into_iter().find(|stream| stream.name == "rbee_output");
    let republish = ours.expect("the stream is ours").republish.filter(|_| is_on);
    let changed = Config { republish, ..stream.cached_info().config.clone() };
    bus.jetstream().update_stream(changed).await.expect("the server accepts it");
}

#[tokio::test]
async fn connected_follower_recovers_lost_chunks_without_repeating_any() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let (tenant, id) = job("a");
    let mut follow = bus.read_output(&tenant, &id).await.expect("subscribed");
    let last = append(&bus, &job("a"), 0..1, 0).await;
    set_republish(&bus, false).await;
    let last = append(&bus, &job("a"), 1..5, last).await;
    set_republish(&bus, true).await;
    let last = append(&bus, &job("a"), 5..8, last).await;
    // Chunks 0, 5, 6 and 7 arrive. At 5 the follower finds the gap and reads everything up to now; it skips the later 6 and 7.
    for index in 0..8 {
        assert_eq!(follow.next(PATIENCE).await.expect("read").expect("a chunk").chunk, tokens(index));
    }
    bus.append(&tenant, &id, &done(8), last).await.expect("appended");
    assert_eq!(read_to_the_end(&mut follow).await, answer(8)[8..]);
}

#[tokio::test]
async fn connected_follower_recovers_a_lost_final_chunk() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let (tenant, id) = job("a");
    let mut follow = bus.read_output(&tenant, &id).await.expect("subscribed");
    set_republish(&bus, false).await;
    let last = append(&bus, &job("a"), 0..3, 0).await;
    bus.append(&tenant, &id, &done(3), last).await.expect("appended");
    let started = Instant::now();
    assert_eq!(read_to_the_end(&mut follow).await, answer(3));
    assert!(
        started.elapsed() < PATIENCE / 2,
        "the follower checks the stream after its silence setting, before the timeout of the read"
    );
}
