//! Malformed messages change nothing in a fleet: the queen refuses or skips them, and counts them.

use rbee_nats::{Bus, Registry, Subject, recent_events};
use rbee_schema::{
    FailureCode, HiveHeartbeat, ModelName, QueenEvent, WorkerHeartbeat, WorkerPhase, WorkerRecord,
    api::{Hives, Model, ModelRequest, Workers},
};
use rbee_tests::{
    fleet::{Fleet, metric_value},
    wait::{PATIENCE, eventually},
};

const MANY: usize = 200;

/// Number of messages of this kind that the queen has skipped so far.
async fn ignored(fleet: &Fleet, what: &str) -> usize {
    let url = format!("{}/metrics", fleet.http().await);
    metric_value(&url, &format!("rbee_queen_ignored_total{{what=\"{what}\"}}")).await as usize
}

/// Waits until the queen has counted `times` of them. A new hive may send a heartbeat before its record is read, which adds one.
async fn is_counted(fleet: &Fleet, what: &str, times: usize) {
    let is_so = async || ignored(fleet, what).await >= times;
    eventually(&format!("`{what}` is counted {times} times"), PATIENCE, is_so).await;
}

/// The record of a ready worker.
fn ready() -> WorkerRecord {
    WorkerRecord {
        model: "m".parse().expect("a name"),
        phase: WorkerPhase::Ready,
        epoch: 1,
        pid: None,
        port: None,
        slots: 1,
        exits: 0,
        limits: None,
        failure: None,
        spec: None,
    }
}

/// The hives and the workers that the queen knows.
async fn known(bus: &Bus) -> (Hives, Workers) {
    let hives = bus.request("hives", &()).await.expect("the queen answers");
    (hives, bus.request("workers", &()).await.expect("the queen answers"))
}

#[tokio::test]
async fn heartbeats_of_unknown_senders_are_counted_and_ignored() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "", 1, 1).await;
    fleet.ready(1).await;
    let hive = HiveHeartbeat { epoch: 1, workers: 1, ports_leased: 1, ports_total: 1, late_ms: 0, free: None };
    let worker = WorkerHeartbeat {
        model: "m".parse().expect("a name"),
        epoch: 1,
        slots: 1,
        jobs: Vec::new(),
        tokens: 0,
        steps: 0,
        blocked: 0,
        memory_bytes: 0,
        cache: None,
    };
    for number in 0..MANY {
        let ghost = format!("ghost-{number}").parse().expect("a name");
        let of_one = Subject::WorkerHeartbeat(
            "one".parse().expect("a name"),
            format!("ghost-{number}").parse().expect("a name"),
        );
        fleet.bus.publish(&Subject::HiveHeartbeat(ghost), &hive).await.expect("the connection is open");
        fleet.bus.publish(&of_one, &worker).await.expect("the connection is open");
        fleet.bus.publish(&of_one, &"no beat").await.expect("the connection is open");
    }
    is_counted(&fleet, "heartbeat of an unknown hive", MANY).await;
    is_counted(&fleet, "heartbeat of an unknown worker", MANY).await;
    is_counted(&fleet, "heartbeat", MANY).await;
    let (hives, workers) = known(&fleet.bus).await;
    assert_eq!((hives.hives.len(), workers.workers.len()), (1, 1));
}

#[tokio::test]
async fn malformed_registry_entries_are_counted_and_ignored() {
    let fleet = Fleet::start().await;
    let workers = Registry::workers(&fleet.bus);
    let record = ready();
    for number in 0..MANY {
        workers.put(&format!("of-no-hive-{number}"), &record).await.expect("the server stores it");
    }
    let bucket = fleet.bus.jetstream().get_key_value("rbee_hives").await.expect("the bucket exists");
    bucket.put("two", "no record".into()).await.expect("the server stores it");
    is_counted(&fleet, "worker", MANY).await;
    is_counted(&fleet, "record of a hive", 1).await;
    let (hives, workers) = known(&fleet.bus).await;
    assert_eq!((hives.hives.len(), workers.workers.len()), (1, 0));
}

#[tokio::test]
async fn refused_declaration_is_shown_and_published_once() {
    let fleet = Fleet::start().await;
    let bucket = fleet.bus.jetstream().get_key_value("rbee_models").await.expect("the bucket exists");
    for times in 1..5 {
        bucket.put("wrong", r#"{"reference":"mock:","slots":0}"#.into()).await.expect("the server stores it");
        // A bucket keeps the last of each key: what is overwritten before it was read was never there.
        is_counted(&fleet, "declaration", times).await;
    }
    let wrong: ModelName = "wrong".parse().expect("a name");
    let shown =
        fleet.bus.request::<_, Model>("model", &ModelRequest { model: wrong }).await.expect_err("it is refused");
    assert_eq!(shown.code, FailureCode::InvalidRequest);
    assert!(shown.message.contains("slots is 0"), "{shown}");
    let events = recent_events(&fleet.bus, "rbee.evt.model.wrong.refused", std::time::SystemTime::UNIX_EPOCH);
    assert_eq!(events.await.expect("the server answers").len(), 1);
}

#[tokio::test]
async fn order_for_an_unknown_hive_does_not_count_as_a_worker() {
    let fleet = Fleet::start().await;
    let subject = Subject::QueenEvent("ghost".parse().expect("a name"), "placed".to_owned());
    for number in 0..MANY {
        let placed = QueenEvent::Placed {
            model: "m".parse().expect("a name"),
            hive: format!("ghost-{number}").parse().expect("a name"),
            worker: "w".parse().expect("a name"),
            why: String::new(),
            expected_ms: None,
        };
        fleet.bus.publish(&subject, &placed).await.expect("the connection is open");
    }
    is_counted(&fleet, "order of a queen", MANY).await;
    fleet.serve_mock("m", "", 1, 1).await;
    fleet.ready(1).await;
}

#[tokio::test]
async fn large_fleet_is_listed_in_pages() {
    const WORKERS: usize = 1_100;
    let mut fleet = Fleet::bare().await;
    fleet.queen().await;
    let workers = Registry::workers(&fleet.bus);
    let record = ready();
    for number in 0..WORKERS {
        workers.put(&format!("far.w-{number}"), &record).await.expect("the server stores it");
    }
    eventually("the queen knows them all", PATIENCE, async || {
        fleet.status().await.is_some_and(|status| status.workers_ready as usize == WORKERS)
    })
    .await;
    let first: Workers = fleet.bus.request("workers", &()).await.expect("the queen answers");
    assert!(first.workers.len() < WORKERS && first.next.is_some(), "{:?}", first.next);
    let listed = fleet.rbee(&["ps", "--json"]).await;
    let listed: Workers = serde_json::from_slice(&listed.stdout).expect("JSON");
    let mut names: Vec<_> = listed.workers.iter().map(|worker| worker.name.clone()).collect();
    names.dedup();
    assert_eq!((names.len(), listed.next), (WORKERS, None));
    let wrong = serde_json::json!({ "after": "nowhere" });
    let refused = fleet.bus.request::<_, Workers>("workers", &wrong).await.expect_err("it is no key");
    assert!(refused.message.contains("HIVE/WORKER"), "{refused}");
}
