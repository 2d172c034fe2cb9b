//! Settings of the bus take effect.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use async_nats::jetstream::stream::Config;
use rbee_nats::{BusLimits, EventReader, Outbox, Plan, recent_events};
use rbee_schema::{Event, HiveCommand, WorkerEvent};
use rbee_tests::{
    nats::{NatsServer, connect_with},
    relay::Relay,
    wait::{PATIENCE, soon},
};

use crate::sample::{done, job, name, pull, queue, submission};

/// Limit for a setting of a fraction of a second. Each default is longer than this.
const SOON: Duration = Duration::from_millis(2500);

fn event(number: u32) -> Event {
    Event::Worker(name("h"), name("w"), WorkerEvent::Draining { why: number.to_string() })
}

#[tokio::test]
async fn connect_timeout_applies_to_an_unresponsive_server() {
    let unresponsive = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("nats://{}", unresponsive.local_addr().expect("an address"));
    let begun = Instant::now();
    connect_with(&url, "rbee", "connect=100ms").await.expect_err("no greeting comes");
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn request_and_ping_timeouts_apply_without_replies() {
    let server = NatsServer::start().await;
    let relay = Relay::start(server.url()).await;
    let bus = connect_with(relay.url(), "rbee", "connect=200ms,request=300ms,ping=100ms").await.expect("connected");
    relay.drop_replies();
    let begun = Instant::now();
    bus.round_trip().await.expect_err("nothing comes back");
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    let mut online = bus.online();
    soon("loss of the connection", online.wait_for(|online| !online)).await.expect("the connection is ours");
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn reader_that_cannot_be_reopened_fails() {
    let server = NatsServer::start().await;
    let observer = server.bus("rbee").await;
    let relay = Relay::start(server.url()).await;
    let bus = connect_with(relay.url(), "rbee", "reader=200ms").await.expect("connected");
    let mut events = EventReader::since(&bus, "rbee.evt.>", None).await.expect("subscribed");
    observer.jetstream().delete_stream("rbee_events").await.expect("deleted");
    // The reader is reopened when the connection is back, and finds no stream.
    relay.cut();
    relay.restore();
    let begun = Instant::now();
    soon("end of the reader", events.next()).await.expect_err("there is no such stream");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn command_setting_limits_the_lifetime_of_commands() {
    let server = NatsServer::start().await;
    server.bus("rbee").await;
    let bus = connect_with(server.url(), "rbee", "command=7s").await.expect("connected");
    bus.command(&name("h"), &HiveCommand::Resume).await.expect("stored");
    let stream = bus.jetstream().get_stream("rbee_commands").await.expect("the stream exists");
    let stored = stream.get_last_raw_message_by_subject("rbee.cmd.hive.h").await.expect("it exists");
    assert_eq!(stored.headers.get("Nats-TTL").map(|value| value.as_str()), Some("7"));
}

#[tokio::test]
async fn full_outbox_drops_events_while_the_bus_is_down() {
    let mut server = NatsServer::start().await;
    server.bus("rbee").await;
    let bus = connect_with(server.url(), "rbee", "outbox=2").await.expect("connected");
    server.kill().await;
    let outbox = Outbox::start(&bus);
    (0..10).for_each(|number| outbox.publish(&event(number)));
    server.restart().await;
    outbox.drained(PATIENCE).await;
    let stored = recent_events(&bus, "rbee.evt.worker.>", std::time::SystemTime::UNIX_EPOCH).await.expect("read");
    // One event may have left the outbox before the others were added.
    assert!((2..=3).contains(&stored.len()), "{}", stored.len());
}

#[tokio::test]
async fn follower_checks_the_stream_after_its_silence_setting() {
    let server = NatsServer::start().await;
    let observer = server.bus("rbee").await;
    let bus = connect_with(server.url(), "rbee", "output_recheck=100ms").await.expect("connected");
    let (tenant, id) = job("a");
    let mut follow = bus.read_output(&tenant, &id).await.expect("subscribed");
    let stream = observer.jetstream().get_stream("rbee_output").await.expect("the stream exists");
    let without_republish = Config { republish: None, ..stream.cached_info().config.clone() };
    observer.jetstream().update_stream(without_republish).await.expect("the server accepts it");
    let begun = Instant::now();
    observer.append(&tenant, &id, &done(0), 0).await.expect("appended");
    assert_eq!(follow.next(PATIENCE).await.expect("read").expect("a chunk").chunk, done(0));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn redelivery_setting_applies_to_jobs_and_reaches_workers() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let limits: BusLimits = "redelivery=1s".parse().expect("limits");
    Plan::with_limits(&bus, &limits)
        .await
        .expect("the server answers")
        .apply(&bus)
        .await
        .expect("the server accepts it");
    bus.submit(submission("a")).await.expect("accepted");
    let mut queue = queue(&bus).await;
    let first = pull(&mut queue).await;
    assert_eq!((first.attempt, first.redelivery), (1, Duration::from_secs(1)));
    let begun = Instant::now();
    assert_eq!(pull(&mut queue).await.attempt, 2);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}
