//! Refusals and malformed answers of the hub.

use rbee_hive::store::{Store, StoreConfig};
use rbee_schema::{ByteSize, FailureCode};
use tempfile::tempdir;

use crate::hub::{FakeHub, provide, weights};

#[tokio::test]
async fn refusal_is_reported_with_a_remedy() {
    for (status, name, code, words) in [
        (401, "GatedRepo", FailureCode::AccessDenied, "set HF_TOKEN"),
        (403, "", FailureCode::AccessDenied, "accept its licence"),
        (404, "RepoNotFound", FailureCode::ModelMissing, "no repository o/r"),
        (404, "RevisionNotFound", FailureCode::ModelMissing, "no revision main"),
    ] {
        let hub = FakeHub::start(&[("m.gguf", weights(10))]).await;
        hub.talk().refusals.push_back((status, name));
        let folder = tempdir().expect("a folder");
        let failure = provide(&hub.store(folder.path()), "hf:o/r/m.gguf").await.expect_err("refused");
        assert_eq!(failure.code, code, "{failure}");
        assert!(failure.message.contains(words), "{failure}");
        assert_eq!(hub.talk().listings.len(), 1, "a refused request is not repeated");
    }
}

#[tokio::test]
async fn missing_file_is_answered_with_a_list_of_the_others() {
    let hub = FakeHub::start(&[("a.gguf", weights(10)), ("b/c.gguf", weights(10)), ("README.md", weights(10))]).await;
    let folder = tempdir().expect("a folder");
    let failure = provide(&hub.store(folder.path()), "hf:o/r/m.gguf").await.expect_err("missing");
    assert_eq!(failure.code, FailureCode::ModelMissing);
    for words in ["m.gguf", "o/r", "a.gguf, b/c.gguf"] {
        assert!(failure.message.contains(words), "{failure}");
    }
    assert!(!failure.message.contains("README"), "{failure}");
}

#[tokio::test]
async fn request_to_a_busy_hub_is_repeated() {
    let hub = FakeHub::start(&[("m.gguf", weights(1000))]).await;
    hub.talk().refusals.extend([(503, ""), (429, "")]);
    let folder = tempdir().expect("a folder");
    provide(&hub.store(folder.path()), "hf:o/r/m.gguf").await.expect("fetched");
    assert_eq!(hub.talk().listings.len(), 3);
}

#[tokio::test]
async fn malformed_listing_fails_the_fetch() {
    for garbage in ["<html>please log in to this network</html>", "{}", r#"{"sha":"../x","siblings":[]}"#] {
        let hub = FakeHub::start(&[("m.gguf", weights(10))]).await;
        hub.talk().garbage = Some(garbage);
        let folder = tempdir().expect("a folder");
        let failure = provide(&hub.store(folder.path()), "hf:o/r/m.gguf").await.expect_err("garbage");
        assert!(failure.code == FailureCode::FetchFailed && failure.retryable, "{failure}");
        assert!(failure.message.contains("no description of a repository"), "{failure}");
    }
}

#[tokio::test]
async fn listing_above_its_bound_is_not_read() {
    let hub = FakeHub::start(&[("m.gguf", weights(10))]).await;
    let folder = tempdir().expect("a folder");
    let small = StoreConfig { largest_listing: ByteSize(100), ..hub.config(folder.path()) };
    let failure = provide(&Store::open(small).expect("a store"), "hf:o/r/m.gguf").await.expect_err("too large");
    assert!(failure.message.contains("larger than 100 B (hub_listing)"), "{failure}");
}

#[tokio::test]
async fn https_address_is_used_with_tls() {
    let hub = FakeHub::start(&[]).await;
    let folder = tempdir().expect("a folder");
    let config = hub.config(folder.path());
    let config = StoreConfig { endpoint: config.endpoint.replace("http:", "https:"), ..config };
    let failure =
        provide(&Store::open(config).expect("a store"), "hf:o/r/m.gguf").await.expect_err("the hub has no TLS");
    assert!(failure.message.contains("InvalidContentType"), "the answer is not TLS: {failure}");
}

#[tokio::test]
async fn malformed_address_is_refused_at_once() {
    let folder = tempdir().expect("a folder");
    for endpoint in ["huggingface.co", "ftp://hub", ""] {
        let config = StoreConfig { endpoint: endpoint.to_owned(), ..StoreConfig::new(folder.path()) };
        let error = Store::open(config).expect_err(endpoint);
        assert!(error.to_string().contains("http"), "{error}");
    }
}
