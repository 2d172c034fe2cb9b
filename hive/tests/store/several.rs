//! Many who ask at once.

use std::fs;

use futures::future::join_all;
use rbee_hive::store::{Progress, Stage};
use tempfile::tempdir;
use tokio::sync::{mpsc, watch};

use crate::hub::{Answer, FakeHub, provide, reference, soon, tell, weights};

#[tokio::test]
async fn many_askers_share_one_download() {
    let bytes = weights(2 << 20);
    let hub = FakeHub::start(&[("m.gguf", bytes.clone())]).await;
    let (gate, closed) = watch::channel(false);
    hub.talk().answers.push_back(Answer::Hold(1000, closed));
    let folder = tempdir().expect("a folder");
    let store = hub.store(folder.path());
    let (sender, mut heard) = mpsc::unbounded_channel();
    let askers = (0..8).map(|number| {
        let (store, sender) = (store.clone(), sender.clone());
        tokio::spawn(async move { store.provide(&reference("hf:o/r/m.gguf"), |_| tell(&sender, number)).await })
    });
    let askers: Vec<_> = askers.collect();
    let mut waiting = std::collections::BTreeSet::new();
    while waiting.len() < 8 {
        waiting.insert(soon(heard.recv()).await.expect("each hears how far it is"));
    }
    gate.send_replace(true);
    for path in join_all(askers).await {
        let path = path.expect("no panic").expect("fetched");
        assert!(fs::read(path).expect("a file") == bytes);
    }
    assert_eq!(hub.ranges(), [None]);
    assert_eq!(hub.talk().listings.len(), 1);
}

#[tokio::test]
async fn a_download_goes_on_while_one_asker_is_left() {
    let hub = FakeHub::start(&[("m.gguf", weights(2 << 20))]).await;
    let (gate, closed) = watch::channel(false);
    hub.talk().answers.push_back(Answer::Hold(1000, closed));
    let folder = tempdir().expect("a folder");
    let store = hub.store(folder.path());
    let (sender, mut heard) = mpsc::unbounded_channel();
    let [leaves, stays] = [0, 1].map(|number| {
        let (store, sender) = (store.clone(), sender.clone());
        tokio::spawn(async move { store.provide(&reference("hf:o/r/m.gguf"), |_| tell(&sender, number)).await })
    });
    let mut waiting = std::collections::BTreeSet::new();
    while waiting.len() < 2 {
        waiting.insert(soon(heard.recv()).await.expect("each hears how far it is"));
    }
    leaves.abort();
    assert!(leaves.await.expect_err("ended").is_cancelled());
    gate.send_replace(true);
    stays.await.expect("no panic").expect("fetched");
    assert_eq!(hub.ranges(), [None]);
}

#[tokio::test]
async fn two_stores_that_share_a_folder_fetch_a_file_once() {
    let bytes = weights(2 << 20);
    let hub = FakeHub::start(&[("m.gguf", bytes.clone())]).await;
    let (gate, closed) = watch::channel(false);
    hub.talk().answers.push_back(Answer::Hold(1000, closed));
    let folder = tempdir().expect("a folder");
    let (sender, mut heard) = mpsc::unbounded_channel::<Progress>();
    let askers = [(); 2].map(|()| {
        let (store, sender) = (hub.store(folder.path()), sender.clone());
        tokio::spawn(async move { store.provide(&reference("hf:o/r/m.gguf"), |now| tell(&sender, now)).await })
    });
    while soon(heard.recv()).await.expect("told").stage != Stage::Waiting {}
    gate.send_replace(true);
    for path in join_all(askers).await {
        let path = path.expect("no panic").expect("provided");
        assert!(fs::read(path).expect("a file") == bytes);
    }
    assert_eq!(hub.ranges(), [None]);
}

#[tokio::test]
async fn a_store_takes_over_when_the_one_that_fetched_is_gone() {
    let bytes = weights(2 << 20);
    let hub = FakeHub::start(&[("m.gguf", bytes.clone())]).await;
    let (_gate, closed) = watch::channel(false);
    hub.talk().answers.push_back(Answer::Hold(1000, closed));
    let folder = tempdir().expect("a folder");
    let (sender, mut heard) = mpsc::unbounded_channel::<(usize, Progress)>();
    let [first, second] = [0, 1].map(|number| {
        let (store, sender) = (hub.store(folder.path()), sender.clone());
        tokio::spawn(
            async move { store.provide(&reference("hf:o/r/m.gguf"), |now| tell(&sender, (number, now))).await },
        )
    });
    let waits = loop {
        let (number, now) = soon(heard.recv()).await.expect("told");
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
async fn a_failure_is_told_to_all_and_not_remembered() {
    let hub = FakeHub::start(&[("m.gguf", weights(1000))]).await;
    hub.talk().answers.push_back(Answer::OtherBytes);
    let folder = tempdir().expect("a folder");
    let store = hub.store(folder.path());
    provide(&store, "hf:o/r/m.gguf").await.expect_err("other bytes");
    provide(&store, "hf:o/r/m.gguf").await.expect("asked anew");
}
