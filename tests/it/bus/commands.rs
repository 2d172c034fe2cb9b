//! Commands: kept for a hive that is away, taken once, and what is none is told.

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
    CommandQueue::open(bus, &hive()).await.expect("the hive listens")
}

/// The next command; a pull that came back empty is renewed, as a hive does it.
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
async fn a_command_says_whose_it_is() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let mut commands = commands(&bus).await;
    for issuer in [CommandIssuer::Person, CommandIssuer::Leader(42)] {
        bus.issue(&hive(), &IssuedCommand { command: stop("a"), issuer, trace: None }).await.expect("stored");
        let order = soon("command", commands.next()).await.expect("the server answers").expect("one came");
        assert_eq!(order, Ok(IssuedCommand { command: stop("a"), issuer, trace: None }));
    }
}

#[tokio::test]
async fn commands_are_kept_in_order_for_a_hive_that_comes_later() {
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
async fn a_command_that_was_taken_does_not_come_again_to_the_hives_next_run() {
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
async fn a_hive_gets_no_commands_of_another() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    bus.command(&name("elsewhere"), &stop("not-ours")).await.expect("stored");
    bus.command(&hive(), &stop("ours")).await.expect("stored");
    assert_eq!(next(&mut commands(&bus).await).await, Ok(stop("ours")));
}

#[tokio::test]
async fn what_is_no_command_is_told_as_a_failure_and_the_next_one_comes() {
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
async fn a_command_that_nobody_takes_lapses() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    bus.command(&hive(), &stop("a")).await.expect("stored");
    let stream = bus.jetstream().get_stream("rbee_commands").await.expect("the stream is there");
    let stored = stream.get_last_raw_message_by_subject("rbee.cmd.hive.workshop").await.expect("the command");
    assert_eq!(stored.headers.get("Nats-TTL").map(|value| value.as_str()), Some("60"));
}

#[tokio::test]
async fn a_command_whose_acknowledgement_is_lost_is_given_again_and_stored_once() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let mut stream = bus.jetstream().get_stream("rbee_commands").await.expect("the stream is there");
    let usual = stream.cached_info().config.clone();
    let silent = Config { no_ack: true, ..usual.clone() };
    bus.jetstream().update_stream(silent).await.expect("the server answers");
    let commanding = tokio::spawn({
        let bus = bus.clone();
        async move { bus.command(&hive(), &stop("a")).await }
    });
    eventually("it is stored", PATIENCE, async || stream.info().await.is_ok_and(|info| info.state.messages == 1)).await;
    assert!(!commanding.is_finished(), "nobody has said that it is stored");
    bus.jetstream().update_stream(usual).await.expect("the server answers");
    soon("word that it is stored", commanding).await.expect("no panic").expect("stored");
    assert_eq!(stream.info().await.expect("the server answers").state.last_sequence, 1, "once");
}

#[tokio::test]
async fn who_commands_hears_that_nobody_stores_it_before_who_waits_for_that_gives_up() {
    let server = NatsServer::start().await;
    let _prepared = server.bus("rbee").await;
    let bus = connect_with(server.url(), "rbee", "connect=200ms,request=2s").await.expect("connected");
    bus.jetstream().delete_stream("rbee_commands").await.expect("deleted");
    let error = timeout(bus.settings().request, bus.command(&hive(), &stop("a"))).await.expect("within one request");
    assert!(error.expect_err("there is no stream").is_transient(), "it may be given again");
}

#[tokio::test]
async fn commands_survive_a_restart_of_the_server() {
    let mut server = NatsServer::start().await;
    server.bus("rbee").await.command(&hive(), &stop("a")).await.expect("stored");
    server.kill().await;
    server.restart().await;
    assert_eq!(next(&mut commands(&server.connect("rbee").await).await).await, Ok(stop("a")));
}

#[tokio::test]
async fn a_hive_that_listens_is_commanded_at_once_after_a_restart_of_the_server() {
    let mut server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let mut commands = commands(&bus).await;
    let listening = tokio::spawn(async move { next(&mut commands).await });
    let stream = bus.jetstream().get_stream("rbee_commands").await.expect("the stream is there");
    eventually("the hive listens", PATIENCE, async || {
        stream.consumer_info("hive-workshop").await.is_ok_and(|info| info.num_waiting == 1)
    })
    .await;
    server.kill().await;
    server.restart().await;
    server.connect("rbee").await.command(&hive(), &stop("a")).await.expect("stored");
    let heard = timeout(BEFORE_A_PULL_ENDS, listening).await.expect("it comes before the lost pull would have ended");
    assert_eq!(heard.expect("the hive listens"), Ok(stop("a")));
}

/// A pull waits for half a minute at the server: what comes earlier came because it was pulled anew.
const BEFORE_A_PULL_ENDS: Duration = Duration::from_secs(20);
