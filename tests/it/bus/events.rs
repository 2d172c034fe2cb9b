//! Events: stored once, in publish order, even if the server was down.

use std::time::{Duration, SystemTime};

use rbee_nats::{Bus, EventReader, EventRecord, Outbox, recent_events};
use rbee_schema::{Event, WorkerEvent};
use rbee_tests::{
    nats::{NatsServer, connect},
    relay::Relay,
    wait::{PATIENCE, eventually, soon},
};
use tokio::time::Instant;

use crate::sample::name;

/// An event of worker `w` of hive `h`, identified by its number.
fn event(number: usize) -> Event {
    Event::Worker(name("h"), name("w"), WorkerEvent::Draining { why: number.to_string() })
}

/// The number of a stored event.
fn number(record: &EventRecord) -> usize {
    let WorkerEvent::Draining { why } = serde_json::from_slice(&record.body).expect("an event") else {
        panic!("another event: {}", record.subject)
    };
    why.parse().expect("a number")
}

async fn stored(bus: &Bus) -> Vec<usize> {
    let events = recent_events(bus, &bus.namespace().all_events(), SystemTime::UNIX_EPOCH).await;
    events.expect("read").iter().map(number).collect()
}

#[tokio::test]
async fn events_are_stored_once_in_publish_order() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let outbox = Outbox::start(&bus);
    (0..500).for_each(|number| outbox.publish(&event(number)));
    outbox.drained(PATIENCE).await;
    assert_eq!(stored(&bus).await, (0..500).collect::<Vec<_>>());
}

#[tokio::test]
async fn server_kill_neither_loses_nor_duplicates_events() {
    const EVENTS: usize = 2_000;
    let mut server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let outbox = Outbox::start(&bus);
    (0..EVENTS).for_each(|number| outbox.publish(&event(number)));
    eventually("some events are stored", PATIENCE, async || !stored(&bus).await.is_empty()).await;
    server.kill().await;
    (EVENTS..EVENTS + 10).for_each(|number| outbox.publish(&event(number)));
    server.restart().await;
    outbox.drained(2 * PATIENCE).await;
    assert_eq!(stored(&bus).await, (0..EVENTS + 10).collect::<Vec<_>>());
}

#[tokio::test]
async fn event_with_a_lost_acknowledgement_is_stored_once() {
    let server = NatsServer::start().await;
    let observer = server.bus("rbee").await;
    let relay = Relay::start(server.url()).await;
    let outbox = Outbox::start(&connect(relay.url(), "rbee").await.expect("connected"));
    relay.drop_replies();
    outbox.publish(&event(0));
    eventually("the event is stored", PATIENCE, async || stored(&observer).await == [0]).await;
    relay.cut();
    relay.restore();
    outbox.publish(&event(1));
    outbox.drained(PATIENCE).await;
    assert_eq!(stored(&observer).await, [0, 1]);
}

#[tokio::test]
async fn outbox_drain_respects_its_timeout_without_a_server() {
    let mut server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    server.kill().await;
    let outbox = Outbox::start(&bus);
    outbox.publish(&event(0));
    let started = Instant::now();
    outbox.drained(Duration::from_millis(300)).await;
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
}

#[tokio::test]
async fn event_subject_names_what_the_event_is_about() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let mut live = EventReader::since(&bus, &bus.namespace().all_events(), None).await.expect("subscribed");
    let outbox = Outbox::start(&bus);
    outbox.publish(&event(7));
    let record = soon("event", live.next()).await.expect("read").expect("an event");
    assert_eq!(record.subject, "rbee.evt.worker.h.w.draining");
    assert_eq!(record.body, r#"{"event":"draining","why":"7"}"#);
    assert!(record.stored.elapsed().is_ok_and(|age| age < PATIENCE));
}

#[tokio::test]
async fn new_event_reader_gets_only_new_events() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let outbox = Outbox::start(&bus);
    outbox.publish(&event(0));
    outbox.drained(PATIENCE).await;
    let mut live = EventReader::since(&bus, &bus.namespace().all_events(), None).await.expect("subscribed");
    outbox.publish(&event(1));
    assert_eq!(number(&soon("event", live.next()).await.expect("read").expect("an event")), 1);
}

#[tokio::test]
async fn recent_events_filters_by_subject_and_time() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let outbox = Outbox::start(&bus);
    let other = Event::Worker(name("h"), name("other"), WorkerEvent::Stopping { why: "x".to_owned() });
    outbox.publish(&event(0));
    outbox.publish(&other);
    outbox.drained(PATIENCE).await;
    let mine = recent_events(&bus, "rbee.evt.worker.h.w.>", SystemTime::UNIX_EPOCH).await.expect("read");
    assert_eq!(mine.iter().map(number).collect::<Vec<_>>(), [0]);

    let later = mine[0].stored + Duration::from_millis(1);
    assert_eq!(recent_events(&bus, "rbee.evt.worker.h.w.>", later).await.expect("read").len(), 0);
    assert_eq!(recent_events(&bus, "rbee.evt.hive.>", SystemTime::UNIX_EPOCH).await.expect("read").len(), 0);
}

#[tokio::test]
async fn event_reader_continues_after_a_server_restart() {
    let mut server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let outbox = Outbox::start(&bus);
    let mut live = EventReader::since(&bus, &bus.namespace().all_events(), None).await.expect("subscribed");
    outbox.publish(&event(0));
    assert_eq!(number(&soon("event", live.next()).await.expect("read").expect("an event")), 0);
    server.kill().await;
    server.restart().await;
    outbox.publish(&event(1));
    assert_eq!(number(&soon("event", live.next()).await.expect("read").expect("an event")), 1);
}
