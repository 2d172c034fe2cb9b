//! Streams and buckets that somebody deletes under a running fleet.

use rbee_nats::{Bus, Registry};
use rbee_schema::WorkerPhase;
use rbee_tests::{
    fleet::{Fleet, chat, whole},
    wait::{PATIENCE, eventually},
};

/// Deletes a stream and waits until it exists again.
async fn delete(bus: &Bus, stream: &str) {
    let before = created(bus, stream).await;
    bus.jetstream().delete_stream(stream).await.expect("it is there");
    eventually(&format!("{stream} is made again"), PATIENCE, async || {
        let after = created(bus, stream).await;
        after.is_some() && after != before
    })
    .await;
}

/// First sequence of a stream, which is another one after it was made again.
async fn created(bus: &Bus, stream: &str) -> Option<u64> {
    bus.jetstream().get_stream(stream).await.ok().and_then(|stream| stream.cached_info().config.first_sequence)
}

#[tokio::test]
async fn deleted_streams_are_made_again_and_used() {
    let fleet = Fleet::start().await;
    for stream in ["rbee_events", "rbee_output", "rbee_dead", "rbee_commands", "rbee_cancels", "rbee_jobs"] {
        delete(&fleet.bus, stream).await;
    }
    // The spawn needs the hive's command queue, its answer the other streams.
    fleet.serve_mock("m", "tokens=3", 1, 1).await;
    fleet.ready(1).await;
    let (_, mut output) = fleet.submit("m", chat("Hi")).await;
    whole(&mut output).await;
    let events = async || {
        let events = fleet.bus.jetstream().get_stream("rbee_events").await.expect("it is there");
        events.cached_info().state.messages
    };
    eventually("events are stored", PATIENCE, async || events().await > 3).await;
}

#[tokio::test]
async fn records_and_leases_return_to_deleted_buckets() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=3", 2, 2).await;
    let before = fleet.ready(2).await;
    for bucket in ["KV_rbee_workers", "KV_rbee_ports", "KV_rbee_hives", "KV_rbee_files"] {
        delete(&fleet.bus, bucket).await;
    }
    eventually("records and leases are back", PATIENCE, async || {
        let workers = Registry::workers(&fleet.bus).all().await.unwrap_or_default();
        let leases = Registry::ports(&fleet.bus).all().await.unwrap_or_default();
        let hives = Registry::hives(&fleet.bus).all().await.unwrap_or_default();
        let is_ready = |phase| phase == WorkerPhase::Ready;
        workers.iter().filter(|(_, worker)| is_ready(worker.phase)).count() == 2
            && leases.len() == 2
            && hives.len() == 1
    })
    .await;
    let names = |workers: &[rbee_schema::api::Worker]| {
        let mut names: Vec<String> = workers.iter().map(|worker| worker.name.to_string()).collect();
        names.sort();
        names
    };
    let after = fleet.ready(2).await;
    assert_eq!(names(&after), names(&before), "no worker was replaced");
}

#[tokio::test]
async fn queen_leads_again_after_the_bucket_of_its_lease_was_deleted() {
    let fleet = Fleet::start().await;
    delete(&fleet.bus, "KV_rbee_queen").await;
    eventually("a queen leads", PATIENCE, async || fleet.status().await.is_some_and(|status| status.leads)).await;
    // The hive follows the new term.
    fleet.serve_mock("m", "tokens=3", 1, 1).await;
    fleet.ready(1).await;
}
