//! The outbox: what one stream does not store holds up nothing that goes elsewhere.

use async_nats::jetstream::stream::{Config, DiscardPolicy};
use rbee_nats::{Bus, Outbox, Registry, recent_events};
use rbee_schema::{Event, HiveEvent, ModelReference, ModelSpec, WorkerEvent};
use rbee_tests::{
    nats::NatsServer,
    wait::{PATIENCE, eventually},
};

use crate::sample::name;

fn event(why: &str) -> Event {
    Event::Worker(name("h"), name("w"), WorkerEvent::Draining { why: why.to_owned() })
}

/// Changes the configuration of the stream of events.
async fn change_events(bus: &Bus, change: impl FnOnce(Config) -> Config) {
    let stream = bus.jetstream().get_stream("rbee_events").await.expect("the stream exists");
    let changed = change(stream.cached_info().config.clone());
    bus.jetstream().update_stream(changed).await.expect("the server accepts it");
}

/// Number of stored events.
async fn stored(bus: &Bus) -> usize {
    recent_events(bus, "rbee.evt.>", std::time::SystemTime::UNIX_EPOCH).await.map_or(0, |events| events.len())
}

/// Publishes a registry entry and waits until it is stored.
async fn check_registry(bus: &Bus, outbox: &Outbox, key: &str) {
    let models = Registry::<ModelSpec>::models(bus);
    models.put_ordered(outbox, key, &ModelSpec::new(ModelReference::Mock(String::new())), None);
    eventually("the registry entry is stored", PATIENCE, async || {
        models.get(key).await.expect("the server answers").is_some()
    })
    .await;
}

#[tokio::test]
async fn registry_entries_do_not_wait_behind_a_full_stream() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    change_events(&bus, |config| Config { discard: DiscardPolicy::New, max_bytes: 1, ..config }).await;
    let outbox = Outbox::start(&bus);
    (0..3).for_each(|number| outbox.publish(&event(&number.to_string())));
    check_registry(&bus, &outbox, "m").await;
    assert_eq!(stored(&bus).await, 0);
    eventually("the outbox says what is not stored", PATIENCE, async || {
        bus.storage_problem().is_some_and(|problem| problem.contains("`events` has stored nothing"))
    })
    .await;
    change_events(&bus, |config| Config { max_bytes: -1, ..config }).await;
    outbox.drained(PATIENCE).await;
    assert_eq!((stored(&bus).await, bus.storage_problem(), bus.lost_messages()), (3, None, 0));
    outbox.publish(&event("after"));
    outbox.drained(PATIENCE).await;
    assert_eq!(stored(&bus).await, 4);
}

#[tokio::test]
async fn registry_entries_do_not_wait_behind_a_deleted_stream() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    bus.jetstream().delete_stream("rbee_events").await.expect("deleted");
    let outbox = Outbox::start(&bus);
    outbox.publish(&event("0"));
    check_registry(&bus, &outbox, "m").await;
    rbee_nats::Plan::compute(&bus).await.expect("read").apply(&bus).await.expect("made again");
    outbox.drained(PATIENCE).await;
    assert_eq!(stored(&bus).await, 1);
}

#[tokio::test]
async fn event_that_can_never_be_stored_is_dropped_and_counted() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    change_events(&bus, |config| Config { max_message_size: 1000, ..config }).await;
    let outbox = Outbox::start(&bus);
    outbox.publish(&event(&"x".repeat(2000)));
    outbox.publish(&Event::Hive(name("h"), HiveEvent::Resumed {}));
    outbox.drained(PATIENCE).await;
    assert_eq!((stored(&bus).await, bus.lost_messages()), (1, 1));
}
