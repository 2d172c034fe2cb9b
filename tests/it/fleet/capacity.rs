//! Capacity: workers start with demand and stop when they are idle or their model is removed.

use std::time::Duration;

use rbee_nats::Registry;
use rbee_schema::{Chunk, ModelReference, ModelSpec};
use rbee_tests::{
    fleet::{Fleet, chat, whole},
    wait::{PATIENCE, eventually},
};

#[tokio::test]
async fn idle_worker_is_stopped_and_the_next_job_starts_one() {
    let fleet = Fleet::start().await;
    let spec = ModelSpec::new(ModelReference::Mock("tokens=2".into()));
    fleet.serve("m", ModelSpec { idle_timeout: Duration::from_secs(1), ..spec }).await;
    for _ in 0..2 {
        let (_, mut output) = fleet.submit("m", chat("Hi")).await;
        assert!(matches!(whole(&mut output).await.last(), Some(Chunk::Done { .. })));
        eventually("the idle worker is removed", PATIENCE, async || fleet.workers().await.is_empty()).await;
        let leases = Registry::ports(&fleet.bus);
        eventually("its port is free", PATIENCE, async || leases.all().await.is_ok_and(|all| all.is_empty())).await;
    }
}

#[tokio::test]
async fn workers_of_a_removed_model_are_stopped() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "", 2, 2).await;
    fleet.ready(2).await;
    Registry::models(&fleet.bus).remove("m").await.expect("the server answers");
    eventually("its workers are removed", PATIENCE, async || fleet.workers().await.is_empty()).await;
}

#[tokio::test]
async fn stopping_hive_stops_its_workers_and_leaves_nothing() {
    let mut fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=1000,interval=10ms", 2, 2).await;
    fleet.ready(2).await;
    let (_, mut output) = fleet.submit("m", chat("Hi")).await;
    output.next(PATIENCE).await.expect("the answer begins");
    fleet.kill_role("queen");
    assert!(fleet.stop_role("one").await, "the hive exits with code 0");
    assert_eq!(fleet.processes(), [] as [u32; 0]);
    assert_eq!(Registry::ports(&fleet.bus).all().await.expect("the server answers"), []);
    assert_eq!(Registry::workers(&fleet.bus).all().await.expect("the server answers"), []);
    // The job is back in the queue with its output so far, and continues on the next hive.
    fleet.queen().await;
    let ports = fleet.ports.range();
    fleet.hive("two", &ports).await;
    let chunks = whole(&mut output).await;
    assert!(matches!(chunks.last(), Some(Chunk::Done { index: 1000, .. })), "{:?}", chunks.last());
}
