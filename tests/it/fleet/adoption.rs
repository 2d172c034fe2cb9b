//! A hive that was down adopts its workers when it is back, and runs only once.

use rbee_nats::{EventReader, Registry};
use rbee_schema::Chunk;
use rbee_tests::{
    fleet::{Fleet, chat, whole},
    wait::{PATIENCE, eventually, soon},
};

#[tokio::test]
async fn restarted_hive_adopts_its_workers() {
    let mut fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=200,interval=20ms", 1, 1).await;
    let before = fleet.ready(1).await.remove(0);
    let (_, mut output) = fleet.submit("m", chat("Hi")).await;
    output.next(PATIENCE).await.expect("the answer begins");
    fleet.kill_role("one");
    let ports = fleet.ports.range();
    let filter = "rbee.evt.worker.one.*.adopted";
    let mut adopted = EventReader::since(&fleet.bus, filter, None).await.expect("the server answers");
    fleet.hive("one", &ports).await;
    soon("adoption", adopted.next()).await.expect("the server answers").expect("an event");
    let chunks = whole(&mut output).await;
    assert!(matches!(chunks.last(), Some(Chunk::Done { index: 200, .. })), "{:?}", chunks.last());
    assert!(!chunks.iter().any(|chunk| matches!(chunk, Chunk::Resumed { .. })), "the answer was not interrupted");
    let after = fleet.ready(1).await.remove(0);
    assert_eq!((after.name, after.record), (before.name, before.record));
    let leases = Registry::ports(&fleet.bus).all().await.expect("the server answers");
    assert_eq!(leases.len(), 1, "{leases:?}");
}

#[tokio::test]
async fn worker_that_died_while_its_hive_was_down_is_restarted() {
    let mut fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=3", 1, 1).await;
    let before = fleet.ready(1).await.remove(0);
    fleet.kill_role("one");
    fleet.kill(&before);
    let ports = fleet.ports.range();
    fleet.hive("one", &ports).await;
    eventually("the next run of the worker is ready", PATIENCE, async || {
        let workers = fleet.workers().await;
        workers.len() == 1
            && workers[0].name == before.name
            && workers[0].record.epoch == before.record.epoch + 1
            && workers[0].record.phase == rbee_schema::WorkerPhase::Ready
    })
    .await;
    let leases = Registry::ports(&fleet.bus).all().await.expect("the server answers");
    assert_eq!(leases.len(), 1, "{leases:?}");
}

#[tokio::test]
async fn second_hive_with_a_name_in_use_exits_with_75() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "", 1, 1).await;
    let before = fleet.ready(1).await.remove(0);
    let folders = [fleet.folder().join("one"), fleet.folder().join("elsewhere")];
    for (folder, words) in folders.iter().zip(["already runs on this machine", "already runs on"]) {
        let data = folder.display().to_string();
        let refused = fleet.rbee(&["hive", "--name", "one", "--ports", &fleet.ports.range(), "--data", &data]).await;
        let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(75), "{stderr}");
        assert!(stderr.contains(words) && stderr.contains("--name"), "{stderr}");
    }
    assert_eq!(fleet.ready(1).await.remove(0).record, before.record);
}
