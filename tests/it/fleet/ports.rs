//! Ports: leased, reused, exhausted, and never shared.

use std::{collections::BTreeSet, net::TcpListener};

use rbee_nats::{EventReader, Registry};
use rbee_schema::{FailureCode, WorkerEvent};
use rbee_tests::{
    fleet::Fleet,
    wait::{PATIENCE, eventually, soon},
};

#[tokio::test]
async fn port_is_reused_after_a_crash() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("a", "", 3, 3).await;
    let workers = fleet.ready(3).await;
    let ports: BTreeSet<u16> = workers.iter().filter_map(|worker| worker.record.port).collect();
    assert_eq!(ports, (0..3).map(|index| fleet.ports.port(index)).collect(), "the lowest three");
    let mut leased =
        EventReader::since(&fleet.bus, "rbee.evt.port.one.*.leased", None).await.expect("the server answers");
    let middle = fleet.ports.port(1);
    let victim = workers.iter().find(|worker| worker.record.port == Some(middle)).expect("a worker has the port");
    fleet.kill(victim);
    let next = soon("lease", leased.next()).await.expect("the server answers").expect("an event");
    assert_eq!(next.subject, format!("rbee.evt.port.one.{middle}.leased"));
}

#[tokio::test]
async fn worker_serves_health_and_metrics_on_its_port() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "", 1, 1).await;
    let port = fleet.ready(1).await[0].record.port.expect("a ready worker has a port");
    let get = async |path: &str| {
        let response = reqwest::get(format!("http://127.0.0.1:{port}{path}")).await.expect("it answers");
        (response.status().as_u16(), response.text().await.expect("a body"))
    };
    assert_eq!(get("/healthz").await, (200, "ready\n".to_owned()));
    let (status, metrics) = get("/metrics").await;
    assert!(status == 200 && metrics.contains("rbee_worker_load_seconds"), "{metrics}");
}

#[tokio::test]
async fn spawn_without_a_free_port_is_refused_and_retried() {
    let mut fleet = Fleet::bare().await;
    fleet.queen().await;
    let range = fleet.ports.part(0, 1);
    fleet.hive("one", &range).await;
    let mut failed =
        EventReader::since(&fleet.bus, "rbee.evt.worker.one.*.failed", None).await.expect("the server answers");
    fleet.serve_mock("a", "", 2, 2).await;
    fleet.ready(2).await;
    fleet.serve_mock("b", "", 1, 1).await;
    let record = soon("refusal", failed.next()).await.expect("the server answers").expect("an event");
    let event: WorkerEvent = serde_json::from_slice(&record.body).expect("an event of a worker");
    let WorkerEvent::Failed { failure, .. } = event else { panic!("{event:?}") };
    assert_eq!(failure.code, FailureCode::PortsExhausted);
    assert!(failure.retryable && failure.message.contains(&range), "{failure}");

    Registry::models(&fleet.bus).remove("a").await.expect("the server answers");
    eventually("the waiting model has a worker", PATIENCE, async || {
        let workers = fleet.workers().await;
        workers.iter().any(|worker| worker.record.model.as_str() == "b" && worker.record.port.is_some())
    })
    .await;
}

#[tokio::test]
async fn two_hives_on_one_machine_never_share_a_port() {
    let mut fleet = Fleet::start().await;
    let ports = fleet.ports.range();
    fleet.hive("two", &ports).await;
    fleet.serve_mock("m", "", 8, 8).await;
    let workers = fleet.ready(8).await;
    let hives: BTreeSet<&str> = workers.iter().map(|worker| worker.hive.as_str()).collect();
    let ports: BTreeSet<u16> = workers.iter().filter_map(|worker| worker.record.port).collect();
    assert_eq!(hives, BTreeSet::from(["one", "two"]));
    assert_eq!(ports.len(), 8, "{ports:?}");
}

#[tokio::test]
async fn port_in_use_is_skipped_and_reported() {
    let fleet = Fleet::start().await;
    let _other_program = TcpListener::bind(("127.0.0.1", fleet.ports.port(0))).expect("the port is free");
    let filter = "rbee.evt.port.one.*.skipped";
    let mut skipped = EventReader::since(&fleet.bus, filter, None).await.expect("the server answers");
    fleet.serve_mock("m", "", 1, 1).await;
    let record = soon("skip", skipped.next()).await.expect("the server answers").expect("an event");
    assert_eq!(record.subject, format!("rbee.evt.port.one.{}.skipped", fleet.ports.port(0)));
    assert_eq!(fleet.ready(1).await[0].record.port, Some(fleet.ports.port(1)));
    eventually("the lease of the skipped port is released", PATIENCE, async || {
        let leases = Registry::ports(&fleet.bus).all().await.expect("the server answers");
        leases.iter().all(|(key, _)| !key.ends_with(&format!(".{}", fleet.ports.port(0))))
    })
    .await;
}
