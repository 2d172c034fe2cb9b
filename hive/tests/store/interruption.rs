//! Interrupted fetches: no byte is fetched twice.

use std::{env, fs, path::Path, process::Stdio};

use rbee_hive::store::{Progress, Stage, Store, StoreConfig};
use rbee_schema::FailureCode;
use tempfile::tempdir;
use tokio::{
    process::Command,
    sync::{mpsc, watch},
};

use crate::hub::{Answer, FakeHub, files_under, provide, reference, send, sha256, soon, weights};

const SIZE: usize = 3 << 20;

#[tokio::test]
async fn fetch_continues_where_the_connection_was_cut() {
    let bytes = weights(SIZE);
    let hub = FakeHub::start(&[("m.gguf", bytes.clone())]).await;
    hub.talk().answers.extend([Answer::Cut(1_000_000), Answer::Status(503), Answer::Cut(500_000)]);
    let folder = tempdir().expect("a folder");
    let path = provide(&hub.store(folder.path()), "hf:o/r/m.gguf").await.expect("fetched");
    assert!(fs::read(path).expect("a file") == bytes);
    let starts: Vec<usize> = hub.ranges().into_iter().map(start).collect();
    // Less may have arrived than was sent before the cut. No byte that has arrived is requested again.
    let [0, first, again, second] = starts.as_slice() else { panic!("{starts:?}") };
    assert!(*first <= 1_000_000 && first == again, "{starts:?}");
    assert!(second >= first && *second <= first + 500_000, "{starts:?}");
}

#[tokio::test]
async fn fetch_continues_where_a_dropped_one_ended() {
    let bytes = weights(SIZE);
    let hub = FakeHub::start(&[("m.gguf", bytes.clone())]).await;
    let (_gate, closed) = watch::channel(false);
    hub.talk().answers.push_back(Answer::Hold(1_000_000, closed));
    let folder = tempdir().expect("a folder");
    {
        let store = hub.store(folder.path());
        tokio::select! {
            ended = provide(&store, "hf:o/r/m.gguf") => panic!("the hub holds the rest: {ended:?}"),
            () = soon(part_has(folder.path(), 1_000_000)) => {}
        }
    }
    let names = files_under(folder.path());
    assert!(names.iter().all(|name| name.ends_with(".part")), "no incomplete file has its name: {names:?}");

    let path = provide(&hub.store(folder.path()), "hf:o/r/m.gguf").await.expect("fetched");
    assert!(fs::read(path).expect("a file") == bytes);
    assert_eq!(hub.ranges().into_iter().map(start).collect::<Vec<_>>(), [0, 1_000_000]);
    assert!(files_under(folder.path()).iter().all(|name| !name.ends_with(".part")));
}

#[tokio::test]
async fn damaged_partial_download_is_fetched_again() {
    let bytes = weights(SIZE);
    let hub = FakeHub::start(&[("m.gguf", bytes.clone())]).await;
    let folder = tempdir().expect("a folder");
    let blobs = folder.path().join("models--o--r/blobs");
    fs::create_dir_all(&blobs).expect("a folder");
    fs::write(blobs.join(format!("{}.rbee.part", sha256(&bytes))), vec![0; 2_000_000]).expect("written");
    let path = provide(&hub.store(folder.path()), "hf:o/r/m.gguf").await.expect("fetched");
    assert!(fs::read(path).expect("a file") == bytes);
    assert_eq!(hub.ranges().into_iter().map(start).collect::<Vec<_>>(), [2_000_000, 0]);
}

#[tokio::test]
async fn hub_without_ranges_sends_the_whole_file_again() {
    let bytes = weights(SIZE);
    let hub = FakeHub::start(&[("m.gguf", bytes.clone())]).await;
    hub.talk().answers.extend([Answer::Cut(1_000_000), Answer::WithoutRange]);
    let folder = tempdir().expect("a folder");
    let path = provide(&hub.store(folder.path()), "hf:o/r/m.gguf").await.expect("fetched");
    assert!(fs::read(path).expect("a file") == bytes);
}

#[tokio::test]
async fn fetch_from_a_broken_hub_fails_and_keeps_its_bytes() {
    let hub = FakeHub::start(&[("m.gguf", weights(SIZE))]).await;
    hub.talk().answers.push_back(Answer::Cut(1_000_000));
    hub.talk().answers.extend([503, 500, 429].map(Answer::Status));
    let folder = tempdir().expect("a folder");
    let store = hub.store(folder.path());
    let failure = provide(&store, "hf:o/r/m.gguf").await.expect_err("broken");
    assert!(failure.code == FailureCode::FetchFailed && failure.retryable, "{failure}");
    assert!(failure.message.contains("3 requests"), "{failure}");
    let tried = hub.ranges().len();
    provide(&store, "hf:o/r/m.gguf").await.expect("the hub has recovered");
    let after: Vec<usize> = hub.ranges().into_iter().skip(tried).map(start).collect();
    let [from] = after.as_slice() else { panic!("{after:?}") };
    assert!(*from > 0, "the bytes were kept");
}

#[tokio::test]
async fn fetch_from_an_unreachable_hub_fails() {
    let mut hub = FakeHub::start(&[]).await;
    hub.stop().await;
    let folder = tempdir().expect("a folder");
    let failure = provide(&hub.store(folder.path()), "hf:o/r/m.gguf").await.expect_err("no hub");
    assert!(failure.code == FailureCode::FetchFailed && failure.retryable, "{failure}");
    assert!(failure.message.contains("Connection refused"), "{failure}");
}

/// Set in the child process that is killed: address of the hub, and folder.
const KILLED: (&str, &str) = ("RBEE_TEST_HUB", "RBEE_TEST_FOLDER");

#[tokio::test]
async fn lock_of_a_killed_process_is_taken_over() {
    if let (Ok(hub), Ok(folder)) = (env::var(KILLED.0), env::var(KILLED.1)) {
        let config = StoreConfig { endpoint: hub, ..StoreConfig::new(folder) };
        let ended = provide(&Store::open(config).expect("a store"), "hf:o/r/m.gguf").await;
        panic!("the hub holds the rest: {ended:?}");
    }
    let bytes = weights(SIZE);
    let hub = FakeHub::start(&[("m.gguf", bytes.clone())]).await;
    let (_gate, closed) = watch::channel(false);
    hub.talk().answers.push_back(Answer::Hold(1_000_000, closed));
    let folder = tempdir().expect("a folder");
    let mut other = Command::new(env::current_exe().expect("this program"))
        .args(["--exact", "interruption::lock_of_a_killed_process_is_taken_over"])
        .env(KILLED.0, &hub.endpoint)
        .env(KILLED.1, folder.path())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("this program starts");
    tokio::select! {
        ended = other.wait() => panic!("the other process exited: {ended:?}"),
        () = soon(part_has(folder.path(), 1_000_000)) => {}
    }
    let (sender, mut reports) = mpsc::unbounded_channel::<Progress>();
    let store = hub.store(folder.path());
    let fetching =
        tokio::spawn(
            async move { store.provide(&reference("hf:o/r/m.gguf"), |progress| send(&sender, progress)).await },
        );
    assert_eq!(soon(reports.recv()).await.expect("reported").stage, Stage::Waiting);
    other.kill().await.expect("killed");
    let path = fetching.await.expect("no panic").expect("fetched");
    assert!(fs::read(path).expect("a file") == bytes);
    assert_eq!(hub.ranges().into_iter().map(start).collect::<Vec<_>>(), [0, 1_000_000]);
}

/// Waits until the partial download has this number of bytes.
async fn part_has(folder: &Path, bytes: u64) {
    loop {
        let parts = fs::read_dir(folder.join("models--o--r/blobs")).into_iter().flatten().flatten();
        if parts.flat_map(|part| part.metadata()).any(|part| part.len() >= bytes) {
            return;
        }
        tokio::task::yield_now().await;
    }
}

fn start(range: Option<String>) -> usize {
    let Some(range) = range else { return 0 };
    let number = range.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-'));
    number.and_then(|number| number.parse().ok()).expect("a range with an open end")
}
