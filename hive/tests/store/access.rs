//! What the hub refuses.

use rbee_hive::store::{Store, StoreConfig};
use rbee_schema::{ByteSize, FailureCode};
use tempfile::tempdir;

use crate::hub::{FakeHub, provide, weights};

#[tokio::test]
async fn a_refusal_is_told_with_what_to_do() {
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
        assert_eq!(hub.talk().listings.len(), 1, "a refusal is not asked for again");
    }
}

#[tokio::test]
async fn a_missing_file_is_answered_with_those_that_are_there() {
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
async fn a_busy_hub_is_asked_again() {
    let hub = FakeHub::start(&[("m.gguf", weights(1000))]).await;
    hub.talk().refusals.extend([(503, ""), (429, "")]);
    let folder = tempdir().expect("a folder");
    provide(&hub.store(folder.path()), "hf:o/r/m.gguf").await.expect("fetched");
    assert_eq!(hub.talk().listings.len(), 3);
}

#[tokio::test]
async fn an_answer_that_is_no_listing_is_a_failed_fetch() {
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
async fn a_listing_that_is_larger_than_its_bound_is_not_read() {
    let hub = FakeHub::start(&[("m.gguf", weights(10))]).await;
    let folder = tempdir().expect("a folder");
    let small = StoreConfig { largest_listing: ByteSize(100), ..hub.config(folder.path()) };
    let failure = provide(&Store::open(small).expect("a store"), "hf:o/r/m.gguf").await.expect_err("too large");
    assert!(failure.message.contains("larger than 100 B (hub_listing)"), "{failure}");
}

#[tokio::test]
async fn a_hub_is_spoken_to_by_tls_where_its_address_says_so() {
    let hub = FakeHub::start(&[]).await;
    let folder = tempdir().expect("a folder");
    let config = hub.config(folder.path());
    let config = StoreConfig { endpoint: config.endpoint.replace("http:", "https:"), ..config };
    let failure = provide(&Store::open(config).expect("a store"), "hf:o/r/m.gguf").await.expect_err("it knows no TLS");
    assert!(failure.message.contains("InvalidContentType"), "what answered is no TLS: {failure}");
}

#[tokio::test]
async fn an_address_that_is_none_is_refused_at_once() {
    let folder = tempdir().expect("a folder");
    for endpoint in ["huggingface.co", "ftp://hub", ""] {
        let config = StoreConfig { endpoint: endpoint.to_owned(), ..StoreConfig::new(folder.path()) };
        let error = Store::open(config).expect_err(endpoint);
        assert!(error.to_string().contains("http"), "{error}");
    }
}
