//! The lease of the leading queen: one holder at a time, each with its own term.

use std::time::Duration;

use rbee_nats::{LeaderLease, Registry};
use rbee_schema::{LeaderRecord, Protocol};
use rbee_tests::{
    nats::NatsServer,
    wait::{PATIENCE, eventually},
};

use crate::sample::name;

/// The shortest time to live that the server accepts.
const LEASE: Duration = Duration::from_secs(1);

fn record(queen: &str, term: Option<u64>) -> LeaderRecord {
    LeaderRecord { queen: name(queen), version: "1".to_owned(), protocol: Protocol::OURS, term, suspect_ms: None }
}

#[tokio::test]
async fn leader_lease_has_one_holder_and_terms_increase() {
    let server = NatsServer::start().await;
    let lease = LeaderLease::new(&server.bus("rbee").await, 10 * LEASE);
    let term = lease.take(&record("a", None)).await.expect("the server answers").expect("it is free");
    assert_eq!(lease.take(&record("b", None)).await.expect("the server answers"), None);
    let renewed = lease
        .renew(&record("a", Some(term)), term)
        .await
        .expect("the server answers")
        .expect("the lease is held by this queen");
    // The acknowledgement of a renewal may be lost: the next renewal with the old revision succeeds.
    assert!(
        lease.renew(&record("a", Some(term)), term).await.expect("the server answers").is_some_and(|at| at > renewed)
    );
    lease.resign(renewed).await.expect("the server answers");
    assert_eq!(
        lease.take(&record("b", None)).await.expect("the server answers"),
        None,
        "a release with an old revision has no effect"
    );
    let (held, revision) = (Registry::leader(&server.bus("rbee").await), renewed + 1);
    assert!(held.get("leader").await.expect("the server answers").is_some());
    lease.resign(revision).await.expect("the server answers");
    let next = lease.take(&record("b", None)).await.expect("the server answers").expect("it is free");
    assert!(next > term);
    assert_eq!(
        lease.renew(&record("a", Some(term)), renewed).await.expect("the server answers"),
        None,
        "another queen holds it"
    );
}

#[tokio::test]
async fn unrenewed_leader_lease_expires() {
    let server = NatsServer::start().await;
    let lease = LeaderLease::new(&server.bus("rbee").await, LEASE);
    lease.take(&record("a", None)).await.expect("the server answers").expect("it is free");
    eventually("another queen has the lease", LEASE + PATIENCE, async || {
        lease.take(&record("b", None)).await.is_ok_and(|taken| taken.is_some())
    })
    .await;
}
