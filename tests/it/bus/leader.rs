//! The lease of the queen who leads: one holder at a time, each with a term of her own.

use std::time::Duration;

use rbee_nats::{LeaderLease, Registry};
use rbee_schema::{LeaderRecord, Protocol};
use rbee_tests::{
    nats::NatsServer,
    wait::{PATIENCE, eventually},
};

use crate::sample::name;

/// As short as the server takes one.
const LEASE: Duration = Duration::from_secs(1);

fn record(queen: &str, term: Option<u64>) -> LeaderRecord {
    LeaderRecord { queen: name(queen), version: "1".to_owned(), protocol: Protocol::OURS, term, suspect_ms: None }
}

#[tokio::test]
async fn one_queen_has_the_lease_until_she_gives_it_up_and_later_terms_have_higher_numbers() {
    let server = NatsServer::start().await;
    let lease = LeaderLease::new(&server.bus("rbee").await, 10 * LEASE);
    let term = lease.take(&record("a", None)).await.expect("the server answers").expect("it is free");
    assert_eq!(lease.take(&record("b", None)).await.expect("the server answers"), None);
    let renewed = lease.renew(&record("a", Some(term)), term).await.expect("the server answers").expect("it is hers");
    // The word of a renewal may be lost: she goes on all the same.
    assert!(
        lease.renew(&record("a", Some(term)), term).await.expect("the server answers").is_some_and(|at| at > renewed)
    );
    lease.resign(renewed).await.expect("the server answers");
    assert_eq!(lease.take(&record("b", None)).await.expect("the server answers"), None, "that was an old revision");
    let (held, revision) = (Registry::leader(&server.bus("rbee").await), renewed + 1);
    assert!(held.get("leader").await.expect("the server answers").is_some());
    lease.resign(revision).await.expect("the server answers");
    let next = lease.take(&record("b", None)).await.expect("the server answers").expect("it is free");
    assert!(next > term);
    assert_eq!(
        lease.renew(&record("a", Some(term)), renewed).await.expect("the server answers"),
        None,
        "it is another's"
    );
}

#[tokio::test]
async fn a_lease_that_nobody_renews_lapses() {
    let server = NatsServer::start().await;
    let lease = LeaderLease::new(&server.bus("rbee").await, LEASE);
    lease.take(&record("a", None)).await.expect("the server answers").expect("it is free");
    eventually("another one has it", LEASE + PATIENCE, async || {
        lease.take(&record("b", None)).await.is_ok_and(|taken| taken.is_some())
    })
    .await;
}
