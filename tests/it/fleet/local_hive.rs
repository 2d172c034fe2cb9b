//! A queen with a local hive: each of the two survives the kill of the other.

use std::{collections::BTreeSet, fs};

use rbee_nats::Registry;
use rbee_schema::HiveRecord;
use rbee_tests::{
    fleet::{Fleet, signal},
    wait::{PATIENCE, eventually},
};

/// Starts a queen with local hive `one`, and waits until the queen leads and the hive takes commands.
async fn queen_with_hive(fleet: &mut Fleet) -> HiveRecord {
    let mut command = fleet.command();
    command.args(["queen", "--hive", "--http", "127.0.0.1:0", "--queen-name", "queen"]);
    command.env("RBEE_HIVE", "one").env("RBEE_PORTS", fleet.ports.range()).env("RBEE_METRICS", "127.0.0.1:0");
    command.env("RBEE_DATA", fleet.folder().join("one"));
    fleet.launch("queen", command);
    eventually("a queen leads", PATIENCE, async || fleet.status().await.is_some_and(|status| status.leads)).await;
    next_run(fleet, 0).await
}

/// Waits until hive `one` takes commands in a run after this one.
async fn next_run(fleet: &Fleet, epoch: u64) -> HiveRecord {
    let mut found = None;
    eventually(&format!("hive one takes commands after run {epoch}"), PATIENCE, async || {
        found = Registry::hives(&fleet.bus).get("one").await.ok().flatten();
        found.as_ref().is_some_and(|record| record.epoch > epoch)
    })
    .await;
    found.expect("it was found")
}

/// Waits until the log of the queens has these words `times` times.
async fn logged(fleet: &Fleet, words: &str, times: usize) {
    let log = fleet.log("queen");
    eventually(&format!("the queen logs `{words}` {times} times"), PATIENCE, async || {
        fs::read_to_string(&log).is_ok_and(|log| log.matches(words).count() >= times)
    })
    .await;
}

#[tokio::test]
async fn killed_local_hive_is_restarted_and_adopts_its_worker() {
    let mut fleet = Fleet::bare().await;
    let first = queen_with_hive(&mut fleet).await;
    fleet.serve_mock("m", "", 1, 1).await;
    let worker = fleet.ready(1).await.remove(0).record;
    signal(first.pid, "KILL");
    let second = next_run(&fleet, first.epoch).await;
    assert_ne!(second.pid, first.pid);
    logged(&fleet, "end=Signal(9)", 1).await;
    assert_eq!(fleet.ready(1).await.remove(0).record, worker, "it was adopted");
    assert!(fleet.stop_role("queen").await, "the queen exits with code 0");
    assert_eq!(fleet.processes(), Vec::<u32>::new(), "its hive and the worker have exited");
}

#[tokio::test]
async fn local_hive_outlives_its_queen_and_is_found_by_the_next_one() {
    let mut fleet = Fleet::bare().await;
    let first = queen_with_hive(&mut fleet).await;
    fleet.serve_mock("m", "", 1, 1).await;
    let worker = fleet.ready(1).await.remove(0).record;
    fleet.kill_role("queen");
    let same = queen_with_hive(&mut fleet).await;
    logged(&fleet, "watching the local hive that is already running", 1).await;
    assert_eq!((same.pid, same.epoch), (first.pid, first.epoch));
    let expected: BTreeSet<u32> = [fleet.role_pid("queen"), first.pid].into_iter().chain(worker.pid).collect();
    assert_eq!(fleet.processes().into_iter().collect::<BTreeSet<_>>(), expected, "no second hive runs");
    // The hive is no child of the second queen, which still notices its exit.
    signal(first.pid, "KILL");
    let second = next_run(&fleet, first.epoch).await;
    logged(&fleet, "end=Unknown", 1).await;
    assert_eq!(fleet.ready(1).await.remove(0).record, worker, "it was adopted");
    // A queen also terminates a hive that it has not started.
    fleet.kill_role("queen");
    assert_eq!(queen_with_hive(&mut fleet).await.pid, second.pid);
    logged(&fleet, "watching the local hive that is already running", 2).await;
    assert!(fleet.stop_role("queen").await, "the queen exits with code 0");
    assert_eq!(fleet.processes(), Vec::<u32>::new(), "its hive and the worker have exited");
}

#[tokio::test]
async fn stopped_local_hive_is_not_restarted() {
    // As a child of the queen, and as a hive that the queen found.
    for is_found in [false, true] {
        let mut fleet = Fleet::bare().await;
        queen_with_hive(&mut fleet).await;
        if is_found {
            fleet.kill_role("queen");
            queen_with_hive(&mut fleet).await;
            logged(&fleet, "watching the local hive that is already running", 1).await;
        }
        let stopped = fleet.rbee(&["stop", "one"]).await;
        assert!(stopped.status.success(), "{}", String::from_utf8_lossy(&stopped.stderr));
        logged(&fleet, "was told to stop and is not restarted", 1).await;
        assert_eq!(fleet.processes(), [fleet.role_pid("queen")]);
        assert!(fleet.stop_role("queen").await, "the queen exits with code 0");
    }
}

#[tokio::test]
async fn down_stops_a_queen_and_its_local_hive() {
    let mut fleet = Fleet::bare().await;
    queen_with_hive(&mut fleet).await;
    fleet.serve_mock("m", "", 1, 1).await;
    fleet.ready(1).await;
    let down = fleet.rbee(&["down"]).await;
    assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
    assert!(fleet.exit_code("queen").await == Some(0), "the queen exits with code 0");
    eventually("no process is left", PATIENCE, async || fleet.processes().is_empty()).await;
}

#[tokio::test]
async fn queen_with_invalid_hive_settings_does_not_start() {
    let fleet = Fleet::bare().await;
    let mut command = fleet.command();
    command.args(["queen", "--hive", "--http", "127.0.0.1:0"]).env("RBEE_PORTS", "9-8");
    let refused = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("rbee runs");
    let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("9-8") && stderr.contains("expected FIRST-LAST"), "{stderr}");
}
