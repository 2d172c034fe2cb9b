//! Commands: kept for a hive that is down, delivered once, and reported where they are malformed.

use std::time::Duration;

use async_nats::jetstream::stream::Config;
use rbee_nats::{Bus, CommandIssuer, CommandQueue, IssuedCommand};
use rbee_schema::{FailureCode, HiveCommand, HiveName, StopMode};
use rbee_tests::{
    nats::{NatsServer, connect_with},
    wait::{PATIENCE, eventually, soon},
};
use tokio::time::timeout;

use crate::sample::name;

fn hive() -> HiveName {
    name("workshop")
}

fn stop(worker: &str) -> HiveCommand {
    HiveCommand::Stop { worker: name(worker), why: "idle".to_owned(), mode: StopMode::Drain }
}

async fn commands(bus: &Bus) -> CommandQueue {
    CommandQueue::open(bus, &hive()).await.expect("the consumer exists")
}

/// The next command. An empty pull is repeated, as a hive does.
async fn next(commands: &mut CommandQueue) -> Result<HiveCommand, rbee_schema::Failure> {
    let coming = async {
        loop {
            if let Some(order) = commands.next().await.expect("the server answers") {
                return order;
            }
        }
    };
    soon("command", coming).await.map(|order| order.command)
}

#[tokio::test]
async fn command_carries_its_authority() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let mut commands = commands(&bus).await;
    for issuer in [CommandIssuer::Person, CommandIssuer::Leader(42)] {
        bus.issue(&hive(), &IssuedCommand { command: stop("a"), issuer, trace: None }).await.expect("stored");
        let order = soon("command", commands.next()).await.expect("the server answers").expect("a command");
        assert_eq!(order, Ok(IssuedCommand { command: stop("a"), issuer, trace: None }));
    }
}

#[tokio::test]
async fn commands_are_kept_in_order_for_a_hive_that_starts_later() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    for worker in ["a", "b", "c"] {
        bus.command(&hive(), &stop(worker)).await.expect("stored");
    }
    let mut commands = commands(&bus).await;
    for worker in ["a", "b", "c"] {
        assert_eq!(next(&mut commands).await, Ok(stop(worker)));
    }
}

#[tokio::test]
async fn received_command_is_not_redelivered_to_the_next_run_of_a_hive() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    bus.command(&hive(), &stop("a")).await.expect("stored");
    let mut first_run = commands(&bus).await;
    assert_eq!(next(&mut first_run).await, Ok(stop("a")));
    bus.round_trip().await.expect("the server answers");
    drop(first_run);
    bus.command(&hive(), &stop("b")).await.expect("stored");
    assert_eq!(next(&mut commands(&server.connect("rbee").await).await).await, Ok(stop("b")));
}

#[tokio::test]
async fn hive_gets_only_its_own_commands() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    bus.command(&name("elsewhere"), &stop("not-ours")).await.expect("stored");
    bus.command(&hive(), &stop("ours")).await.expect("stored");
    assert_eq!(next(&mut commands(&bus).await).await, Ok(stop("ours")));
}

#[tokio::test]
async fn malformed_command_is_a_failure_and_does_not_block_the_next() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let nonsense = bus.jetstream().publish("rbee.cmd.hive.workshop", r#"{"command":"dance"}"#.into()).await;
    nonsense.expect("sent").await.expect("stored");
    bus.command(&hive(), &stop("a")).await.expect("stored");
    let mut commands = commands(&bus).await;
    let failure = next(&mut commands).await.expect_err("no command");
    assert_eq!(failure.code, FailureCode::InvalidRequest);
    assert!(failure.message.contains("rbee.cmd.hive.workshop") && failure.message.contains("dance"), "{failure}");
    assert_eq!(next(&mut commands).await, Ok(stop("a")));
}

#[tokio::test]
async fn unreceived_command_expires() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    bus.command(&hive(), &stop("a")).await.expect("stored");
    let stream = bus.jetstream().get_stream("rbee_commands").await.expect("the stream exists");
    let stored = stream.get_last_raw_message_by_subject("rbee.cmd.hive.workshop").await.expect("the command");
    assert_eq!(stored.headers.get("Nats-TTL").map(|value| value.as_str()), Some("60"));
}

#[tokio::test]
async fn command_with_a_lost_acknowledgement_is_resent_and_stored_once() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let mut stream = bus.jetstream().get_stream("rbee_commands").await.expect("the stream exists");
    let usual = stream.cached_info().config.clone();
    let without_acks = Config { no_ack: true, ..usual.clone() };
    bus.jetstream().update_stream(without_acks).await.expect("the server answers");
    let commanding = tokio::spawn({
        let bus = bus.clone();
        async move { bus.command(&hive(), &stop("a")).await }
    });
    eventually("it is stored", PATIENCE, async || stream.info().await.is_ok_and(|info| info.state.messages == 1)).await;
    assert!(!commanding.is_finished(), "the server has not confirmed it");
    bus.jetstream().update_stream(usual).await.expect("the server answers");
    soon("confirmation", commanding).await.expect("no panic").expect("stored");
    let state = stream.info().await.expect("the server answers").state.clone();
    assert_eq!(state.last_sequence, state.first_sequence, "once");
}

#[tokio::test]
async fn missing_command_stream_is_reported_within_a_request_timeout() {
    let server = NatsServer::start().await;
    let _prepared = server.bus("rbee").await;
    let bus = connect_with(server.url(), "rbee", "connect=200ms,request=2s").await.expect("connected");
    bus.jetstream().delete_stream("rbee_commands").await.expect("deleted");
    let error = timeout(bus.settings().request, bus.command(&hive(), &stop("a"))).await.expect("within one request");
    assert!(error.expect_err("there is no stream").is_transient(), "sending it again may succeed");
}

#[tokio::test]
async fn commands_survive_a_server_restart() {
    let mut server = NatsServer::start().await;
    server.bus("rbee").await.command(&hive(), &stop("a")).await.expect("stored");
    server.kill().await;
    server.restart().await;
    assert_eq!(next(&mut commands(&server.connect("rbee").await).await).await, Ok(stop("a")));
}

#[tokio::test]
async fn deleted_consumer_of_a_hive_is_made_again() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let mut commands = commands(&bus).await;
    let stream = bus.jetstream().get_stream("rbee_commands").await.expect("the stream exists");
    stream.delete_consumer("hive-workshop").await.expect("deleted");
    assert!(commands.next().await.is_err(), "there is no consumer");
    bus.command(&hive(), &stop("a")).await.expect("stored");
    assert_eq!(next(&mut commands).await, Ok(stop("a")));
    let consumer = stream.consumer_info("hive-workshop").await.expect("it exists");
    assert_eq!(consumer.config.inactive_threshold, Duration::from_secs(3600), "it lapses when the hive is gone");
}

#[tokio::test]
async fn pulling_hive_gets_commands_at_once_after_a_server_restart() {
    let mut server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let mut commands = commands(&bus).await;
    let listening = tokio::spawn(async move { next(&mut commands).await });
    let stream = bus.jetstream().get_stream("rbee_commands").await.expect("the stream exists");
    eventually("the hive pulls", PATIENCE, async || {
        stream.consumer_info("hive-workshop").await.is_ok_and(|info| info.num_waiting == 1)
    })
    .await;
    server.kill().await;
    server.restart().await;
    server.connect("rbee").await.command(&hive(), &stop("a")).await.expect("stored");
    let received =
        timeout(BEFORE_A_PULL_ENDS, listening).await.expect("it arrives before the lost pull would have expired");
    assert_eq!(received.expect("the consumer exists"), Ok(stop("a")));
}

/// A pull expires at the server after 30 s. A command that arrives earlier was pulled by a new request.
const BEFORE_A_PULL_ENDS: Duration = Duration::from_secs(20);
