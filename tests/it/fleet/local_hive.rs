//! A queen who keeps a hive on her machine: whoever of them is killed, the other one goes on.

use std::{collections::BTreeSet, fs};

use rbee_nats::Registry;
use rbee_schema::HiveRecord;
use rbee_tests::{
    fleet::{Fleet, signal},
    wait::{PATIENCE, eventually},
};

/// Starts a queen who keeps hive `one`, and waits until she leads and it takes commands.
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

/// Waits until queens have said this so many times.
async fn said(fleet: &Fleet, words: &str, times: usize) {
    let log = fleet.log("queen");
    eventually(&format!("the queen says `{words}` {times} times"), PATIENCE, async || {
        fs::read_to_string(&log).is_ok_and(|said| said.matches(words).count() >= times)
    })
    .await;
}

#[tokio::test]
async fn a_local_hive_that_is_killed_is_started_again_and_its_worker_goes_on() {
    let mut fleet = Fleet::bare().await;
    let first = queen_with_hive(&mut fleet).await;
    fleet.serve_mock("m", "", 1, 1).await;
    let worker = fleet.ready(1).await.remove(0).record;
    signal(first.pid, "KILL");
    let second = next_run(&fleet, first.epoch).await;
    assert_ne!(second.pid, first.pid);
    said(&fleet, "end=Signal(9)", 1).await;
    assert_eq!(fleet.ready(1).await.remove(0).record, worker, "it was adopted");
    assert!(fleet.stop_role("queen").await, "she ends well");
    assert_eq!(fleet.processes(), Vec::<u32>::new(), "and her hive with its worker");
}

#[tokio::test]
async fn a_local_hive_outlives_its_queen_and_the_next_one_looks_after_it() {
    let mut fleet = Fleet::bare().await;
    let first = queen_with_hive(&mut fleet).await;
    fleet.serve_mock("m", "", 1, 1).await;
    let worker = fleet.ready(1).await.remove(0).record;
    fleet.kill_role("queen");
    let same = queen_with_hive(&mut fleet).await;
    said(&fleet, "runs already and is looked after", 1).await;
    assert_eq!((same.pid, same.epoch), (first.pid, first.epoch));
    let expected: BTreeSet<u32> = [fleet.role_pid("queen"), first.pid].into_iter().chain(worker.pid).collect();
    assert_eq!(fleet.processes().into_iter().collect::<BTreeSet<_>>(), expected, "there is no second one");
    // Not her child, and watched all the same.
    signal(first.pid, "KILL");
    let second = next_run(&fleet, first.epoch).await;
    said(&fleet, "end=CutShort", 1).await;
    assert_eq!(fleet.ready(1).await.remove(0).record, worker, "it was adopted");
    // One that she has not started is ended in order as well.
    fleet.kill_role("queen");
    assert_eq!(queen_with_hive(&mut fleet).await.pid, second.pid);
    said(&fleet, "runs already and is looked after", 2).await;
    assert!(fleet.stop_role("queen").await, "she ends well");
    assert_eq!(fleet.processes(), Vec::<u32>::new(), "and her hive with its worker");
}

#[tokio::test]
async fn a_local_hive_that_was_told_to_end_is_not_started_again() {
    // As her child, and as one that she found.
    for is_found in [false, true] {
        let mut fleet = Fleet::bare().await;
        queen_with_hive(&mut fleet).await;
        if is_found {
            fleet.kill_role("queen");
            queen_with_hive(&mut fleet).await;
            said(&fleet, "runs already and is looked after", 1).await;
        }
        let stopped = fleet.rbee(&["stop", "one"]).await;
        assert!(stopped.status.success(), "{}", String::from_utf8_lossy(&stopped.stderr));
        said(&fleet, "was told to end and is not started again", 1).await;
        assert_eq!(fleet.processes(), [fleet.role_pid("queen")]);
        assert!(fleet.stop_role("queen").await, "she ends well");
    }
}

#[tokio::test]
async fn down_ends_a_queen_and_the_hive_that_she_keeps() {
    let mut fleet = Fleet::bare().await;
    queen_with_hive(&mut fleet).await;
    fleet.serve_mock("m", "", 1, 1).await;
    fleet.ready(1).await;
    let down = fleet.rbee(&["down"]).await;
    assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
    assert!(fleet.exit_code("queen").await == Some(0), "she ends well");
    eventually("nothing is left", PATIENCE, async || fleet.processes().is_empty()).await;
}

#[tokio::test]
async fn a_queen_whose_hive_is_told_nonsense_does_not_start() {
    let fleet = Fleet::bare().await;
    let mut command = fleet.command();
    command.args(["queen", "--hive", "--http", "127.0.0.1:0"]).env("RBEE_PORTS", "9-8");
    let refused = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("rbee runs");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("9-8") && said.contains("expected FIRST-LAST"), "{said}");
}
