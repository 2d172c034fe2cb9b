//! Errors that are recognized by their text: each text comes from a real server.

use std::time::Duration;

use async_nats::jetstream::{consumer::pull, stream::Config};
use futures::StreamExt as _;
use rbee_nats::{CommandQueue, server_error};
use rbee_schema::{FailureCode, HiveCommand};
use rbee_tests::nats::{NatsServer, connect_with};

use crate::sample::{name, submission};

/// Reduces the stream `jobs` to a size at which it refuses further jobs.
async fn shrink(bus: &rbee_nats::Bus, change: impl FnOnce(Config) -> Config) {
    let stream = bus.jetstream().get_stream("rbee_jobs").await.expect("the stream exists");
    let small = change(stream.cached_info().config.clone());
    bus.jetstream().update_stream(small).await.expect("the server accepts the change");
}

#[tokio::test]
async fn a_subject_with_too_many_messages_is_full() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    shrink(&bus, |config| Config { max_messages_per_subject: 1, ..config }).await;
    bus.submit(submission("a")).await.expect("accepted");
    let refusal = bus.submit(submission("b")).await.expect_err("full");
    assert_eq!(refusal.code, FailureCode::QueueFull, "{refusal}");
}

#[tokio::test]
async fn a_stream_with_too_many_bytes_is_full() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    shrink(&bus, |config| Config { max_bytes: 1, ..config }).await;
    let refusal = bus.submit(submission("a")).await.expect_err("full");
    assert_eq!(refusal.code, FailureCode::QueueFull, "{refusal}");
}

#[tokio::test]
async fn deleting_a_missing_message_is_recognized() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let stream = bus.jetstream().get_stream("rbee_jobs").await.expect("the stream exists");
    let stored = bus.jetstream().publish("rbee.submit.m", "{}".into()).await.expect("sent").await.expect("stored");
    stream.delete_message(stored.sequence).await.expect("deleted");
    for sequence in [stored.sequence, 42] {
        let error = stream.delete_message(sequence).await.expect_err("there is no such message").to_string();
        assert!(server_error::is_no_message(&error), "{sequence}: {error}");
        bus.drop_job(sequence).await.expect("a missing job is removed already");
    }
}

#[tokio::test]
async fn a_pull_from_a_missing_consumer_is_recognized() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let stream = bus.jetstream().get_stream("rbee_output").await.expect("the stream exists");
    let consumer = stream.create_consumer(pull::Config::default()).await.expect("created");
    stream.delete_consumer(&consumer.cached_info().name).await.expect("deleted");
    let mut batch = consumer.fetch().max_messages(1).messages().await.expect("requested");
    let error = batch.next().await.expect("an answer").expect_err("there is no such consumer").to_string();
    assert!(server_error::is_unknown_consumer(&error), "{error}");
}

#[tokio::test]
async fn a_missing_stream_is_not_transient() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    bus.jetstream().delete_stream("rbee_commands").await.expect("deleted");
    let refused = CommandQueue::open(&bus, &name("h")).await.expect_err("there is no such stream");
    assert!(!refused.is_transient(), "{refused}");
}

#[tokio::test]
async fn a_subject_without_a_stream_is_transient() {
    let server = NatsServer::start().await;
    server.bus("rbee").await.jetstream().delete_stream("rbee_commands").await.expect("deleted");
    let bus = connect_with(server.url(), "rbee", "connect=100ms,request=400ms").await.expect("connected");
    let error = bus.command(&name("h"), &HiveCommand::Resume).await.expect_err("nothing stores it");
    assert!(error.cause.contains("no stream found"), "{error}");
    assert!(error.is_transient(), "a stream without a leader gives the same error: {error}");
}

#[tokio::test]
async fn a_lost_server_is_transient() {
    let mut server = NatsServer::start().await;
    server.bus("rbee").await;
    let bus = connect_with(server.url(), "rbee", "connect=100ms,request=400ms").await.expect("connected");
    server.kill().await;
    let error = bus.command(&name("h"), &HiveCommand::Resume).await.expect_err("the server is gone");
    assert!(error.is_transient(), "{error}");
    tokio::time::timeout(Duration::from_secs(10), bus.close()).await.expect("closed");
}
