//! Files in the store, and their removal.

use std::{fs, os::unix::fs::symlink};

use rbee_schema::{FailureCode, ModelReference};
use tempfile::tempdir;

use crate::hub::{COMMIT, FakeHub, files_under, provide, reference, sha256, weights};

#[tokio::test]
async fn removed_file_can_be_fetched_again() {
    let hub = FakeHub::start(&[("m.gguf", weights(100_000))]).await;
    let folder = tempdir().expect("a folder");
    let store = hub.store(folder.path());
    let path = provide(&store, "hf:o/r/m.gguf").await.expect("fetched");
    assert_eq!(store.remove(&reference("hf:o/r/m.gguf")).await, Ok(100_000));
    assert!(!path.exists() && store.list().await.is_empty());
    assert_eq!(files_under(folder.path()), ["models--o--r/refs/main"]);
    let failure = store.remove(&reference("hf:o/r/m.gguf")).await.expect_err("gone");
    assert_eq!(failure.code, FailureCode::ModelMissing);
    assert!(failure.message.contains("it holds nothing"), "{failure}");
    provide(&store, "hf:o/r/m.gguf").await.expect("fetched again");
    assert_eq!(hub.ranges().len(), 2);
}

#[tokio::test]
async fn bytes_stay_while_another_reference_has_them() {
    let hub = FakeHub::start(&[("m.gguf", weights(100_000))]).await;
    let folder = tempdir().expect("a folder");
    let store = hub.store(folder.path());
    let path = provide(&store, "hf:o/r/m.gguf").await.expect("fetched");
    assert_eq!(provide(&store, "hf:o/r").await.expect("found"), path);
    assert_eq!(hub.ranges().len(), 1);
    assert_eq!(store.remove(&reference("hf:o/r")).await, Ok(0));
    assert!(path.exists());
    let failure = store.remove(&reference("hf:o/r")).await.expect_err("gone");
    assert!(failure.message.contains("it holds hf:o/r/m.gguf"), "{failure}");
    assert_eq!(store.remove(&reference("hf:o/r/m.gguf")).await, Ok(100_000));
    assert!(!path.exists());
}

#[tokio::test]
async fn truncated_file_is_fetched_again() {
    let bytes = weights(100_000);
    let hub = FakeHub::start(&[("m.gguf", bytes.clone())]).await;
    let folder = tempdir().expect("a folder");
    let store = hub.store(folder.path());
    let path = provide(&store, "hf:o/r/m.gguf").await.expect("fetched");
    fs::write(fs::canonicalize(&path).expect("a file"), "short").expect("written");
    assert!(store.list().await.is_empty());
    let path = provide(&store, "hf:o/r/m.gguf").await.expect("fetched");
    assert!(fs::read(path).expect("a file") == bytes);
}

#[tokio::test]
async fn file_fetched_by_another_program_is_used() {
    let bytes = weights(1000);
    let mut hub = FakeHub::start(&[]).await;
    hub.stop().await;
    let folder = tempdir().expect("a folder");
    let repo = folder.path().join("models--o--r");
    for part in ["blobs", "refs", &format!("snapshots/{COMMIT}")] {
        fs::create_dir_all(repo.join(part)).expect("a folder");
    }
    fs::write(repo.join("blobs").join(sha256(&bytes)), &bytes).expect("written");
    fs::write(repo.join("refs/main"), COMMIT).expect("written");
    let link = repo.join("snapshots").join(COMMIT).join("m.gguf");
    symlink(format!("../../blobs/{}", sha256(&bytes)), &link).expect("a link");
    let store = hub.store(folder.path());
    assert_eq!(provide(&store, "hf:o/r/m.gguf").await.expect("found"), link);
    assert_eq!(store.list().await[0].sha256, sha256(&bytes));
}

#[tokio::test]
async fn size_of_a_model_folder_is_that_of_its_weights() {
    let hub = FakeHub::start(&[]).await;
    let folder = tempdir().expect("a folder");
    let store = hub.store(folder.path());
    let path = folder.path().join("minilm");
    fs::create_dir_all(&path).expect("made");
    for (name, content) in [("config.json", "{}"), ("a.safetensors", "weights"), ("b.safetensors", "more")] {
        fs::write(path.join(name), content).expect("written");
    }
    let model = ModelReference::File(path.clone());
    assert_eq!(store.provide(&model, |_| {}).await, Ok(path));
    assert_eq!(store.size_of(&model).await, Some(11));
}

#[tokio::test]
async fn local_file_must_exist_and_the_test_engine_needs_none() {
    let hub = FakeHub::start(&[]).await;
    let folder = tempdir().expect("a folder");
    let store = hub.store(folder.path());
    let path = folder.path().join("m.gguf");
    let file = ModelReference::File(path.clone());
    for _ in 0..2 {
        let failure = store.provide(&file, |_| {}).await.expect_err("no file");
        assert_eq!(failure.code, FailureCode::ModelMissing, "{failure}");
        assert!(failure.message.contains("m.gguf"), "{failure}");
        fs::create_dir_all(&path).expect("a folder is not a file");
    }
    fs::remove_dir(&path).expect("removed");
    fs::write(&path, "weights").expect("written");
    assert_eq!(store.provide(&file, |_| {}).await, Ok(path));
    assert_eq!(store.size_of(&file).await, Some(7));
    assert_eq!(store.remove(&file).await.expect_err("the store did not fetch it").code, FailureCode::InvalidRequest);
    assert_eq!(provide(&store, "mock:").await, Ok(std::path::PathBuf::new()));
}
