//! Registries: read completely, then watched, without missing a change in between.

use std::time::{Duration, SystemTime};

use rbee_nats::{Bus, Entry, Outbox, PortLeases, Registry, RegistryWatch};
use rbee_schema::{ByteSize, HiveRecord, Labels, ModelReference, ModelSpec, PortLease, Protocol};
use rbee_tests::{
    nats::{NatsServer, connect},
    relay::Relay,
    wait::{PATIENCE, eventually, soon},
};

use crate::sample::name;

fn spec(options: &str) -> ModelSpec {
    ModelSpec::new(ModelReference::Mock(options.to_owned()))
}

fn hive(epoch: u64) -> HiveRecord {
    HiveRecord {
        epoch,
        version: "1".to_owned(),
        host: name("host"),
        first_port: 1,
        last_port: 2,
        pid: 3,
        state_id: "state".to_owned(),
        draining: false,
        degraded: None,
        memory: ByteSize(4 << 30),
        cores: 2,
        limit_method: None,
        metrics: None,
        protocol: Protocol::OURS,
        labels: Labels::new(),
        devices: Vec::new(),
        kinds: Vec::new(),
        max_workers: None,
        clock_skew_ms: 0,
    }
}

/// An entry without its revision and time, which the server adds.
fn set<T>(key: &str, document: T) -> Entry<T> {
    Entry::Set { key: key.to_owned(), document, revision: 0, stored: SystemTime::UNIX_EPOCH }
}

fn gone<T>(key: &str) -> Entry<T> {
    Entry::Removed(key.to_owned())
}

async fn watch<T: serde::Serialize + serde::de::DeserializeOwned>(registry: &Registry<T>) -> RegistryWatch<T> {
    registry.watch(">").await.expect("watched")
}

async fn next<T: serde::de::DeserializeOwned>(watch: &mut RegistryWatch<T>) -> Entry<T> {
    match soon("entry", watch.next()).await.expect("the watch continues") {
        Entry::Set { key, document, .. } => set(&key, document),
        other => other,
    }
}

/// Writes a raw value, as any client may.
async fn put_by_hand(bus: &Bus, bucket: &str, key: &str, value: &'static str) {
    let bucket = bus.jetstream().get_key_value(bucket).await.expect("the bucket exists");
    bucket.put(key, value.into()).await.expect("stored");
}

#[tokio::test]
async fn watch_of_an_empty_registry_is_current_at_once() {
    let server = NatsServer::start().await;
    let models = Registry::models(&server.bus("rbee").await);
    let mut watch = watch(&models).await;
    assert_eq!(next(&mut watch).await, Entry::Synced);
    models.put("a", &spec("1")).await.expect("stored");
    assert_eq!(next(&mut watch).await, set("a", spec("1")));
    models.remove("a").await.expect("removed");
    assert_eq!(next(&mut watch).await, gone("a"));
}

#[tokio::test]
async fn watch_yields_documents_then_current_then_changes() {
    let server = NatsServer::start().await;
    let models = Registry::models(&server.bus("rbee").await);
    for key in ["a", "b", "a"] {
        models.put(key, &spec(key)).await.expect("stored");
    }
    let mut watch = watch(&models).await;
    assert_eq!(next(&mut watch).await, set("b", spec("b")));
    assert_eq!(next(&mut watch).await, set("a", spec("a")));
    assert_eq!(next(&mut watch).await, Entry::Synced);
    models.put("a", &spec("2")).await.expect("stored");
    assert_eq!(next(&mut watch).await, set("a", spec("2")));
}

#[tokio::test]
async fn watch_of_an_emptied_registry_is_current_without_documents() {
    let server = NatsServer::start().await;
    let models = Registry::models(&server.bus("rbee").await);
    models.put("a", &spec("1")).await.expect("stored");
    models.remove("a").await.expect("removed");
    let mut watch = watch(&models).await;
    assert_eq!(next(&mut watch).await, gone("a"));
    assert_eq!(next(&mut watch).await, Entry::Synced);
    assert_eq!(models.all().await.expect("read"), []);
    assert_eq!(models.get("a").await.expect("read"), None);
}

#[tokio::test]
async fn watch_of_some_keys_yields_only_those() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let models = Registry::models(&bus);
    models.put("other", &spec("1")).await.expect("stored");
    let mut watch = models.watch("mine").await.expect("watched");
    assert_eq!(next(&mut watch).await, Entry::Synced);
    models.put("other", &spec("2")).await.expect("stored");
    models.put("mine", &spec("3")).await.expect("stored");
    assert_eq!(next(&mut watch).await, set("mine", spec("3")));
}

#[tokio::test]
async fn expired_key_is_reported_as_gone_and_a_renewed_one_stays() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let (hives, outbox) = (Registry::hives(&bus), Outbox::start(&bus));
    let expires = Some(Duration::from_secs(1));
    hives.put_ordered(&outbox, "left", &hive(1), expires);
    hives.put_ordered(&outbox, "renewed", &hive(1), expires);
    hives.put_ordered(&outbox, "renewed", &hive(2), Some(Duration::from_secs(600)));
    outbox.drained(PATIENCE).await;
    let mut watch = watch(&hives).await;
    let mut seen = Vec::new();
    while seen.last() != Some(&gone("left")) {
        seen.push(next(&mut watch).await);
    }
    assert!(seen.contains(&set("renewed", hive(2))) && !seen.contains(&gone("renewed")), "{seen:?}");
    assert_eq!(hives.get("left").await.expect("read"), None);
    assert_eq!(hives.get("renewed").await.expect("read"), Some(hive(2)));
}

#[tokio::test]
async fn registry_keys_are_written_in_outbox_order() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let (hives, outbox) = (Registry::hives(&bus), Outbox::start(&bus));
    let mut watch = watch(&hives).await;
    assert_eq!(next(&mut watch).await, Entry::Synced);
    for epoch in 1..=50 {
        hives.put_ordered(&outbox, &format!("h{epoch}"), &hive(epoch), None);
    }
    for epoch in 1..=50 {
        assert_eq!(next(&mut watch).await, set(&format!("h{epoch}"), hive(epoch)));
    }
    // A bucket keeps the last value of each key: a watch may miss the earlier ones, so only the end is checked.
    for epoch in 1..=50 {
        hives.remove_ordered(&outbox, "removed-first");
        hives.put_ordered(&outbox, "removed-first", &hive(epoch), None);
        hives.put_ordered(&outbox, "removed-last", &hive(epoch), None);
        hives.remove_ordered(&outbox, "removed-last");
    }
    outbox.drained(PATIENCE).await;
    assert_eq!(hives.get("removed-first").await.expect("read"), Some(hive(50)));
    assert_eq!(hives.get("removed-last").await.expect("read"), None);
}

#[tokio::test]
async fn unreadable_document_is_reported_with_the_reason() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let models = Registry::models(&bus);
    put_by_hand(&bus, "rbee_models", "bad", "not JSON").await;
    put_by_hand(&bus, "rbee_models", "relative", r#"{"reference":"file:m.gguf"}"#).await;
    put_by_hand(&bus, "rbee_models", "good", r#"{"reference":"mock:"}"#).await;
    let mut watch = watch(&models).await;
    for (key, words) in [("bad", "expected"), ("relative", "not an absolute path")] {
        let Entry::Unreadable { key: found, error: why, .. } = next(&mut watch).await else {
            panic!("{key} is unreadable")
        };
        assert!(found == key && why.contains(words), "{found}: {why}");
    }
    assert_eq!(next(&mut watch).await, set("good", spec("")));
    assert_eq!(models.all().await.expect("read"), [("good".to_owned(), spec(""))]);
    let refused = models.get("bad").await.expect_err("it is no JSON").to_string();
    assert!(refused.contains("expected"), "{refused}");
}

#[tokio::test]
async fn watch_continues_after_a_server_restart() {
    let mut server = NatsServer::start().await;
    let models = Registry::models(&server.bus("rbee").await);
    models.put("before", &spec("1")).await.expect("stored");
    let mut watch = watch(&models).await;
    assert_eq!(next(&mut watch).await, set("before", spec("1")));
    assert_eq!(next(&mut watch).await, Entry::Synced);
    server.kill().await;
    server.restart().await;
    Registry::models(&server.connect("rbee").await).put("after", &spec("2")).await.expect("stored");
    assert_eq!(next_new(&mut watch).await, set("after", spec("2")));
}

/// The next entry that is not key `before`, which a watch may repeat after an interruption.
async fn next_new(watch: &mut RegistryWatch<ModelSpec>) -> Entry<ModelSpec> {
    loop {
        match next(watch).await {
            Entry::Set { key, .. } if key == "before" => {}
            entry => return entry,
        }
    }
}

#[tokio::test]
async fn watch_reports_keys_removed_while_it_was_cut_off() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let leases = PortLeases::new(&bus, &name("host"), Duration::from_secs(660));
    let lease = PortLease { hive: name("h"), hive_epoch: 1, worker: name("w") };
    let released = leases.claim(1, &lease, 0).await.expect("claimed");
    leases.claim(2, &lease, 0).await.expect("claimed");

    let relay = Relay::start(server.url()).await;
    let away = connect(relay.url(), "rbee").await.expect("connected");
    let mut online = away.online();
    let mut watch = watch(&Registry::ports(&away)).await;
    let mut seen = Vec::new();
    while seen.last() != Some(&Entry::Synced) {
        seen.push(next(&mut watch).await);
    }
    assert_eq!(seen, [set("host.1", lease.clone()), set("host.2", lease.clone()), Entry::Synced]);

    relay.cut();
    soon("loss of the connection", online.wait_for(|online| !online)).await.expect("the connection is ours");
    leases.release(released, &lease).await.expect("released");
    let stream = bus.jetstream().get_stream("KV_rbee_ports").await.expect("the bucket exists");
    eventually("the marker of the release has expired", PATIENCE, async || {
        stream.get_info().await.is_ok_and(|info| info.state.messages == 1)
    })
    .await;
    relay.restore();

    let mut later = Vec::new();
    while later.last() != Some(&gone("host.1")) {
        later.push(next(&mut watch).await);
    }
    assert!(!later.contains(&gone("host.2")) && !later.contains(&Entry::Synced), "{later:?}");
}
