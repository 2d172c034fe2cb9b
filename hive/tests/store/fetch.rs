//! A file is fetched completely, or not at all.

use std::fs;

use rbee_hive::store::{Progress, Stage, Store, StoreConfig};
use rbee_schema::FailureCode;
use tempfile::tempdir;

use crate::hub::{Answer, FakeHub, Listed, TOKEN, files_under, hub_file, provide, reference, sha256, weights};

#[tokio::test]
async fn fetched_file_is_found_without_the_network() {
    let bytes = weights(3 << 20);
    let mut hub = FakeHub::start(&[("q/m.gguf", bytes.clone()), ("README.md", "words".into())]).await;
    let folder = tempdir().expect("a folder");
    let store = hub.store(folder.path());
    assert_eq!(store.size_of(&reference("hf:o/r/q/m.gguf")).await, None);

    let path = provide(&store, "hf:o/r/q/m.gguf").await.expect("fetched");
    assert!(path.ends_with("q/m.gguf"), "{}", path.display());
    assert!(fs::read(&path).expect("a file") == bytes, "the file is the one of the hub");
    let [record] = store.list().await.try_into().expect("one file");
    assert_eq!((record.reference, record.bytes), (reference("hf:o/r/q/m.gguf"), 3 << 20));
    assert_eq!((record.sha256, record.path), (sha256(&bytes), path.display().to_string()));
    assert_eq!(hub.ranges(), [None]);

    hub.stop().await;
    for store in [&store, &hub.store(folder.path())] {
        assert_eq!(provide(store, "hf:o/r/q/m.gguf").await.expect("it is stored"), path);
        assert_eq!(store.size_of(&reference("hf:o/r/q/m.gguf")).await, Some(3 << 20));
    }
}

#[tokio::test]
async fn progress_is_reported_from_zero_to_the_whole_file() {
    let hub = FakeHub::start(&[("m.gguf", weights(2 << 20))]).await;
    let folder = tempdir().expect("a folder");
    let mut reported: Vec<Progress> = Vec::new();
    let store = hub.store(folder.path());
    store.fetch(&hub_file("o/r/m.gguf"), |progress| reported.push(progress)).await.expect("fetched");
    let [first, .., last] = reported.as_slice() else { panic!("at least two reports: {reported:?}") };
    assert_eq!((first.done_bytes, first.total_bytes), (0, 2 << 20));
    assert_eq!((last.stage, last.done_bytes, last.total_bytes), (Stage::Fetching, 2 << 20, 2 << 20));
    assert!(reported.is_sorted_by_key(|progress| progress.done_bytes), "{reported:?}");
}

#[tokio::test]
async fn token_is_sent_to_the_hub_and_to_no_other_host() {
    let hub = FakeHub::start(&[("m.gguf", weights(1000))]).await;
    let folder = tempdir().expect("a folder");
    let config = StoreConfig { token: Some(TOKEN.to_owned()), ..hub.config(folder.path()) };
    assert!(!format!("{config:?}").contains(TOKEN), "a token is not printed");
    provide(&Store::open(config).expect("a store"), "hf:o/r/m.gguf").await.expect("fetched");
    assert_eq!(hub.talk().listings, [Some(format!("Bearer {TOKEN}"))]);
    assert!(!hub.talk().seen.is_empty());
    assert!(hub.talk().seen.iter().all(|seen| seen.token.is_none()), "{:?}", hub.talk().seen);
}

#[tokio::test]
async fn file_that_differs_from_the_listing_is_deleted() {
    let bytes = weights(1 << 20);
    let hub = FakeHub::start(&[("m.gguf", bytes.clone())]).await;
    let folder = tempdir().expect("a folder");
    let store = hub.store(folder.path());
    hub.talk().answers.push_back(Answer::OtherBytes);
    let failure = provide(&store, "hf:o/r/m.gguf").await.expect_err("other bytes");
    assert_eq!(failure.code, FailureCode::ModelInvalid, "{failure}");
    assert!(failure.message.contains(&sha256(&bytes)), "{failure}");
    assert_eq!(files_under(folder.path()), [""; 0]);
    provide(&store, "hf:o/r/m.gguf").await.expect("the next time it is right");
}

#[tokio::test]
async fn file_of_another_size_than_listed_is_refused() {
    for (listed, delivered) in [(900_000, 1_000_000), (1_100_000, 1_000_000)] {
        let hub = FakeHub::start(&[("m.gguf", weights(delivered))]).await;
        let folder = tempdir().expect("a folder");
        hub.talk().wrong_sizes.insert("m.gguf".to_owned(), listed);
        let failure = provide(&hub.store(folder.path()), "hf:o/r/m.gguf").await.expect_err("another size");
        assert_eq!(failure.code, FailureCode::ModelInvalid, "{failure}");
        assert_eq!(files_under(folder.path()), [""; 0]);
    }
}

#[tokio::test]
async fn file_without_a_listed_digest_gets_one() {
    for listed in [Listed::GitObject, Listed::Bare] {
        let bytes = weights(100_000);
        let hub = FakeHub::start(&[("m.gguf", bytes.clone())]).await;
        hub.talk().listed = listed;
        let folder = tempdir().expect("a folder");
        let store = hub.store(folder.path());
        provide(&store, "hf:o/r/m.gguf").await.expect("fetched");
        assert_eq!(store.list().await[0].sha256, sha256(&bytes));
        // Another reference finds the same bytes and does not fetch them again.
        let before = hub.ranges().iter().filter(|range| range.as_deref() != Some("bytes=0-0")).count();
        provide(&store, "hf:o/r").await.expect("found");
        assert_eq!(store.list().await[0].sha256, sha256(&bytes));
        assert_eq!(hub.ranges().iter().filter(|range| range.as_deref() != Some("bytes=0-0")).count(), before);
    }
}

#[tokio::test]
async fn reference_without_a_file_name_stands_for_q4_k_m() {
    let files = ["m.Q2_K.gguf", "m.Q4_K_M.gguf", "m.Q8_0.gguf"].map(|name| (name, weights(name.len() * 1000)));
    let hub = FakeHub::start(&files).await;
    let folder = tempdir().expect("a folder");
    let path = provide(&hub.store(folder.path()), "hf:o/r@main").await.expect("fetched");
    assert!(path.ends_with("m.Q4_K_M.gguf"), "{}", path.display());
    hub.talk().files.remove("m.Q4_K_M.gguf");
    let failure = provide(&hub.store(folder.path()), "hf:o/r").await.expect_err("ambiguous");
    assert_eq!(failure.code, FailureCode::InvalidRequest);
    assert!(failure.message.contains("m.Q2_K.gguf, m.Q8_0.gguf"), "{failure}");
}
