//! Port leases: a port has one holder, and is free as soon as it is released.

use std::{collections::BTreeMap, time::Duration};

use async_nats::jetstream::{
    message::{PublishMessage, StreamMessage},
    stream::LastRawMessageErrorKind,
};
use futures::future::join_all;
use rbee_nats::{Bus, ClaimError, PortClaim, PortLeases, Registry};
use rbee_schema::{HostName, PortLease};
use rbee_tests::{
    nats::NatsServer,
    wait::{PATIENCE, eventually},
};

use crate::sample::name;

const LEASE: Duration = Duration::from_secs(660);

fn host() -> HostName {
    name("workshop")
}

fn lease(worker: &str) -> PortLease {
    PortLease { hive: name("hive"), hive_epoch: 1, worker: name(worker) }
}

/// The message that the server stores for a port; `None` where it was never leased, or its marker has expired.
async fn stored(bus: &Bus, port: u16) -> Option<StreamMessage> {
    let stream = bus.jetstream().get_stream("KV_rbee_ports").await.expect("the bucket exists");
    match stream.get_last_raw_message_by_subject(&format!("$KV.rbee_ports.workshop.{port}")).await {
        Ok(message) => Some(message),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => None,
        Err(error) => panic!("the server does not answer: {error}"),
    }
}

/// Checks that a lease has a time to live, so that it expires when its hive does not renew it.
async fn check_time_to_live(bus: &Bus, claim: PortClaim) {
    let message = stored(bus, claim.port).await.expect("the lease exists");
    assert_eq!(message.sequence, claim.revision);
    assert_eq!(message.headers.get("Nats-TTL").map(|value| value.as_str()), Some("660"));
}

#[tokio::test]
async fn concurrent_claims_of_300_ports_never_share_one() {
    const PORTS: u16 = 300;
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let claimers = (0..8_u16).map(async |claimer| {
        let leases = PortLeases::new(&server.connect("rbee").await, &host(), LEASE);
        let mine = lease(&format!("worker-{claimer}"));
        let mut claimed = Vec::new();
        for offset in 0..PORTS {
            // Each claimer starts at another port, and all of them claim every port.
            let port = 8_080 + (offset + claimer * 37) % PORTS;
            match leases.claim(port, &mine, 0).await {
                Ok(claim) => claimed.push(claim.port),
                Err(ClaimError::Held(other)) => assert_ne!(other.worker, mine.worker),
                Err(ClaimError::Bus(error)) => panic!("{error}"),
            }
        }
        (mine.worker, claimed)
    });
    let mut owners = BTreeMap::new();
    for (worker, ports) in join_all(claimers).await {
        for port in ports {
            assert_eq!(owners.insert(port, worker.clone()), None, "port {port} was leased twice");
        }
    }
    assert_eq!(owners.len(), usize::from(PORTS));
    for (key, lease) in Registry::ports(&bus).all().await.expect("read") {
        let port: u16 = key.strip_prefix("workshop.").and_then(|port| port.parse().ok()).expect("a key of the host");
        assert_eq!(owners[&port], lease.worker);
    }
}

#[tokio::test]
async fn one_of_two_concurrent_claims_wins_a_free_port() {
    let server = NatsServer::start().await;
    let (one, two) = (server.bus("rbee").await, server.connect("rbee").await);
    let (one, two) = (PortLeases::new(&one, &host(), LEASE), PortLeases::new(&two, &host(), LEASE));
    let (by_one, by_two) = (lease("one"), lease("two"));
    for port in 9_000..9_050 {
        match futures::join!(one.claim(port, &by_one, 0), two.claim(port, &by_two, 0)) {
            (Ok(_), Err(ClaimError::Held(holder))) => assert_eq!(holder, by_one),
            (Err(ClaimError::Held(holder)), Ok(_)) => assert_eq!(holder, by_two),
            both => panic!("one must get the port and the other must learn its holder: {both:?}"),
        }
    }
}

#[tokio::test]
async fn claim_of_a_held_port_names_its_holder() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let leases = PortLeases::new(&bus, &host(), LEASE);
    leases.claim(8_080, &lease("first"), 0).await.expect("claimed");
    let error = leases.claim(8_080, &lease("second"), 0).await.expect_err("held");
    assert_eq!(error.to_string(), "port is leased by hive hive for worker first");
    assert!(matches!(error, ClaimError::Held(holder) if holder == lease("first")));
}

#[tokio::test]
async fn each_host_has_its_own_ports() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    for host in ["one", "two"] {
        PortLeases::new(&bus, &name(host), LEASE).claim(8_080, &lease("w"), 0).await.expect("claimed");
    }
}

#[tokio::test]
async fn released_port_is_reclaimed_by_revision_with_full_lease_time() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let leases = PortLeases::new(&bus, &host(), LEASE);
    let mut revision = 0;
    for _ in 0..20 {
        let claim = leases.claim(8_080, &lease("w"), revision).await.expect("claimed");
        check_time_to_live(&bus, claim).await;
        revision = leases.release(claim, &lease("w")).await.expect("released");
        assert!(revision > claim.revision);
    }
}

#[tokio::test]
async fn released_port_can_be_claimed_without_its_revision() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let leases = PortLeases::new(&bus, &host(), LEASE);
    let first = leases.claim(8_080, &lease("first"), 0).await.expect("claimed");
    leases.release(first, &lease("first")).await.expect("released");
    let second = leases.claim(8_080, &lease("second"), 0).await.expect("claimed");
    check_time_to_live(&bus, second).await;
}

#[tokio::test]
async fn released_port_can_be_claimed_after_its_marker_expired() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let leases = PortLeases::new(&bus, &host(), LEASE);
    let claim = leases.claim(8_080, &lease("first"), 0).await.expect("claimed");
    let revision = leases.release(claim, &lease("first")).await.expect("released");
    eventually("the marker of the release has expired", PATIENCE, async || stored(&bus, 8_080).await.is_none()).await;
    let again = leases.claim(8_080, &lease("second"), revision).await.expect("claimed");
    check_time_to_live(&bus, again).await;
}

#[tokio::test]
async fn expired_port_lease_is_free_and_the_next_one_expires_too() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let short = PublishMessage::build()
        .payload(serde_json::to_vec(&lease("gone")).expect("a document").into())
        .ttl(Duration::from_secs(1))
        .outbound_message("$KV.rbee_ports.workshop.8080");
    async_nats::jetstream::context::traits::Publisher::publish_message(bus.jetstream(), short)
        .await
        .expect("sent")
        .await
        .expect("stored");
    let leases = PortLeases::new(&bus, &host(), LEASE);
    let mut claim = None;
    eventually("the port is free", PATIENCE, async || {
        claim = leases.claim(8_080, &lease("next"), 0).await.ok();
        claim.is_some()
    })
    .await;
    check_time_to_live(&bus, claim.expect("claimed")).await;
}

#[tokio::test]
async fn renewal_works_after_a_lost_acknowledgement_of_the_last_one() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let leases = PortLeases::new(&bus, &host(), LEASE);
    let first = leases.claim(8_080, &lease("w"), 0).await.expect("claimed");
    let second = leases.renew(first, &lease("w")).await.expect("renewed");
    check_time_to_live(&bus, second).await;
    // The revision of the second renewal is unknown, as if its acknowledgement had been lost.
    let third = leases.renew(first, &lease("w")).await.expect("renewed");
    assert!(third.revision > second.revision);
    check_time_to_live(&bus, third).await;
}

#[tokio::test]
async fn former_holder_can_neither_renew_nor_release_a_lease() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let leases = PortLeases::new(&bus, &host(), LEASE);
    let old = leases.claim(8_080, &lease("old"), 0).await.expect("claimed");
    let revision = leases.release(old, &lease("old")).await.expect("released");
    let new = leases.claim(8_080, &lease("new"), revision).await.expect("claimed");
    for refused in [leases.renew(old, &lease("old")).await.err(), leases.release(old, &lease("old")).await.err()] {
        assert!(refused.as_ref().is_some_and(|error| error.cause.contains("for worker new")), "{refused:?}");
    }
    assert_eq!(Registry::ports(&bus).get("workshop.8080").await.expect("read"), Some(lease("new")));
    leases.renew(new, &lease("new")).await.expect("the new holder keeps it");
}

#[tokio::test]
async fn release_with_an_outdated_revision_still_frees_the_port() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let leases = PortLeases::new(&bus, &host(), LEASE);
    let known = leases.claim(8_080, &lease("w"), 0).await.expect("claimed");
    leases.renew(known, &lease("w")).await.expect("renewed");
    let revision = leases.release(known, &lease("w")).await.expect("released");
    leases.claim(8_080, &lease("next"), revision).await.expect("claimed");
}

#[tokio::test]
async fn releasing_a_free_port_again_changes_nothing() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let leases = PortLeases::new(&bus, &host(), LEASE);
    let claim = leases.claim(8_080, &lease("w"), 0).await.expect("claimed");
    let revision = leases.release(claim, &lease("w")).await.expect("released");
    assert_eq!(leases.release(claim, &lease("w")).await.expect("released already"), revision);
}

#[tokio::test]
async fn port_lease_survives_a_server_restart() {
    let mut server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let claim = PortLeases::new(&bus, &host(), LEASE).claim(8_080, &lease("w"), 0).await.expect("claimed");
    server.kill().await;
    server.restart().await;
    let leases = PortLeases::new(&server.connect("rbee").await, &host(), LEASE);
    assert!(matches!(leases.claim(8_080, &lease("other"), 0).await, Err(ClaimError::Held(_))));
    leases.renew(claim, &lease("w")).await.expect("renewed");
}
