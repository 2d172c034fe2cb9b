//! Several callers at once.

use std::fs;

use futures::future::join_all;
use rbee_hive::store::{Progress, Stage};
use rbee_schema::FailureCode;
use tempfile::tempdir;
use tokio::sync::{mpsc, watch};

use crate::hub::{Answer, FakeHub, provide, reference, send, soon, weights};

#[tokio::test]
async fn callers_share_one_download() {
    let bytes = weights(2 << 20);
    let hub = FakeHub::start(&[("m.gguf", bytes.clone())]).await;
    let (gate, closed) = watch::channel(false);
    hub.talk().answers.push_back(Answer::Hold(1000, closed));
    let folder = tempdir().expect("a folder");
    let store = hub.store(folder.path());
    let (sender, mut reports) = mpsc::unbounded_channel();
    let callers = (0..8).map(|number| {
        let (store, sender) = (store.clone(), sender.clone());
        tokio::spawn(async move { store.provide(&reference("hf:o/r/m.gguf"), |_| send(&sender, number)).await })
    });
    let callers: Vec<_> = callers.collect();
    let mut waiting = std::collections::BTreeSet::new();
    while waiting.len() < 8 {
        waiting.insert(soon(reports.recv()).await.expect("each gets reports"));
    }
    gate.send_replace(true);
    for path in join_all(callers).await {
        let path = path.expect("no panic").expect("fetched");
        assert!(fs::read(path).expect("a file") == bytes);
    }
    assert_eq!(hub.ranges(), [None]);
    assert_eq!(hub.talk().listings.len(), 1);
}

#[tokio::test]
async fn download_continues_while_one_caller_is_left() {
    let hub = FakeHub::start(&[("m.gguf", weights(2 << 20))]).await;
    let (gate, closed) = watch::channel(false);
    hub.talk().answers.push_back(Answer::Hold(1000, closed));
    let folder = tempdir().expect("a folder");
    let store = hub.store(folder.path());
    let (sender, mut reports) = mpsc::unbounded_channel();
    let [leaves, stays] = [0, 1].map(|number| {
        let (store, sender) = (store.clone(), sender.clone());
        tokio::spawn(async move { store.provide(&reference("hf:o/r/m.gguf"), |_| send(&sender, number)).await })
    });
    let mut waiting = std::collections::BTreeSet::new();
    while waiting.len() < 2 {
        waiting.insert(soon(reports.recv()).await.expect("each gets reports"));
    }
    leaves.abort();
    assert!(leaves.await.expect_err("ended").is_cancelled());
    gate.send_replace(true);
    stays.await.expect("no panic").expect("fetched");
    assert_eq!(hub.ranges(), [None]);
}

#[tokio::test]
async fn stores_that_share_a_folder_fetch_a_file_once() {
    let bytes = weights(2 << 20);
    let hub = FakeHub::start(&[("m.gguf", bytes.clone())]).await;
    let (gate, closed) = watch::channel(false);
    hub.talk().answers.push_back(Answer::Hold(1000, closed));
    let folder = tempdir().expect("a folder");
    let (sender, mut reports) = mpsc::unbounded_channel::<Progress>();
    let callers = [(); 2].map(|()| {
        let (store, sender) = (hub.store(folder.path()), sender.clone());
        tokio::spawn(async move { store.provide(&reference("hf:o/r/m.gguf"), |now| send(&sender, now)).await })
    });
    while soon(reports.recv()).await.expect("reported").stage != Stage::Waiting {}
    gate.send_replace(true);
    for path in join_all(callers).await {
        let path = path.expect("no panic").expect("provided");
        assert!(fs::read(path).expect("a file") == bytes);
    }
    assert_eq!(hub.ranges(), [None]);
}

#[tokio::test]
async fn store_takes_over_the_fetch_of_one_that_is_gone() {
    let bytes = weights(2 << 20);
    let hub = FakeHub::start(&[("m.gguf", bytes.clone())]).await;
    let (_gate, closed) = watch::channel(false);
    hub.talk().answers.push_back(Answer::Hold(1000, closed));
    let folder = tempdir().expect("a folder");
    let (sender, mut reports) = mpsc::unbounded_channel::<(usize, Progress)>();
    let [first, second] = [0, 1].map(|number| {
        let (store, sender) = (hub.store(folder.path()), sender.clone());
        tokio::spawn(
            async move { store.provide(&reference("hf:o/r/m.gguf"), |now| send(&sender, (number, now))).await },
        )
    });
    let waits = loop {
        let (number, now) = soon(reports.recv()).await.expect("reported");
        if now.stage == Stage::Waiting {
            break number;
        }
    };
    soon(async {
        while hub.ranges().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (fetches, waits) = if waits == 1 { (first, second) } else { (second, first) };
    fetches.abort();
    let path = waits.await.expect("no panic").expect("provided");
    assert!(fs::read(path).expect("a file") == bytes);
}

#[tokio::test]
async fn failure_reaches_every_caller_and_is_not_remembered() {
    let hub = FakeHub::start(&[("m.gguf", weights(2 << 20))]).await;
    let (gate, closed) = watch::channel(false);
    hub.talk().answers.push_back(Answer::Hold(1000, closed));
    hub.talk().wrong_sizes.insert("m.gguf".to_owned(), (2 << 20) + 1);
    let folder = tempdir().expect("a folder");
    let store = hub.store(folder.path());
    let callers = [(); 3].map(|()| {
        let store = store.clone();
        tokio::spawn(async move { provide(&store, "hf:o/r/m.gguf").await })
    });
    gate.send_replace(true);
    for failure in join_all(callers).await {
        let failure = failure.expect("no panic").expect_err("another size than listed");
        assert_eq!(failure.code, FailureCode::ModelInvalid, "{failure}");
    }
    hub.talk().wrong_sizes.clear();
    provide(&store, "hf:o/r/m.gguf").await.expect("a later fetch succeeds");
}
