//! Leases and records that somebody deletes or forges under a running fleet.

use std::time::Duration;

use bytes::Bytes;
use rbee_nats::{EventReader, Registry};
use rbee_schema::{PortLease, WorkerRecord};
use rbee_tests::{
    fleet::Fleet,
    wait::{PATIENCE, eventually, soon},
};

/// Far shorter than the interval at which a hive renews its leases, which is a minute.
const AT_ONCE: Duration = Duration::from_secs(20);

/// The key and the content of the only lease.
async fn only_lease(fleet: &Fleet) -> (String, PortLease) {
    let mut leases = Registry::ports(&fleet.bus).all().await.expect("the server answers");
    assert_eq!(leases.len(), 1, "{leases:?}");
    leases.remove(0)
}

#[tokio::test]
async fn deleted_lease_of_a_living_worker_is_claimed_again_at_once() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "", 1, 1).await;
    fleet.ready(1).await;
    let (key, lease) = only_lease(&fleet).await;
    Registry::<PortLease>::ports(&fleet.bus).remove(&key).await.expect("deleted");
    eventually("the lease is back", AT_ONCE, async || {
        Registry::ports(&fleet.bus).get(&key).await.expect("the server answers") == Some(lease.clone())
    })
    .await;
}

#[tokio::test]
async fn forged_leases_are_removed_with_an_event() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("first", "", 1, 1).await;
    fleet.ready(1).await;
    let (key, own) = only_lease(&fleet).await;
    let host = key.split_once('.').expect("a host").0.to_owned();
    let mut reclaimed =
        EventReader::since(&fleet.bus, "rbee.evt.port.one.*.reclaimed", None).await.expect("the server answers");
    let forged = PortLease { hive: "ghost".parse().expect("a name"), hive_epoch: 1, worker: own.worker.clone() };
    let store = fleet.bus.jetstream().get_key_value("rbee_ports").await.expect("the bucket exists");
    let body = Bytes::from(serde_json::to_vec(&forged).expect("a document"));
    for (index, content) in [body.clone(), Bytes::from_static(b"garbage")].into_iter().enumerate() {
        let port = fleet.ports.port(u16::try_from(index + 1).expect("small"));
        store.put(format!("{host}.{port}"), content).await.expect("stored");
        let event = soon("event", reclaimed.next()).await.expect("the server answers").expect("an event");
        assert_eq!(event.subject, format!("rbee.evt.port.one.{port}.reclaimed"));
    }
    // Over the lease of a living worker, too: the worker gets it back.
    store.put(&key, body).await.expect("stored");
    eventually("the worker has its lease", AT_ONCE, async || {
        Registry::ports(&fleet.bus).all().await.expect("the server answers") == [(key.clone(), own.clone())]
    })
    .await;
    fleet.serve_mock("second", "", 9, 9).await;
    fleet.ready(10).await;
}

#[tokio::test]
async fn record_of_a_worker_that_is_not_there_is_removed() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "", 1, 1).await;
    fleet.ready(1).await;
    let records = Registry::<WorkerRecord>::workers(&fleet.bus);
    let (key, record) = records.all().await.expect("the server answers").remove(0);
    let forged = WorkerRecord { pid: Some(1), ..record.clone() };
    records.put("one.nobody", &forged).await.expect("stored");
    eventually("the forged record is gone", AT_ONCE, async || {
        records.get("one.nobody").await.expect("the server answers").is_none()
    })
    .await;
    records.remove(&key).await.expect("deleted");
    eventually("the deleted record is back", AT_ONCE, async || {
        records.get(&key).await.expect("the server answers").as_ref() == Some(&record)
    })
    .await;
    // The queen has not replaced the worker meanwhile.
    let workers = fleet.ready(1).await;
    assert_eq!(format!("one.{}", workers[0].name), key);
    eventually("no other worker was started", PATIENCE, async || fleet.workers().await.len() == 1).await;
}
