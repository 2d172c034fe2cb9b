//! Port leases: a port is never given twice, and comes back as soon as it is released.

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

/// What the server stores for a port; nothing when it is as if it had never been leased.
async fn stored(bus: &Bus, port: u16) -> Option<StreamMessage> {
    let stream = bus.jetstream().get_stream("KV_rbee_ports").await.expect("the bucket is there");
    match stream.get_last_raw_message_by_subject(&format!("$KV.rbee_ports.workshop.{port}")).await {
        Ok(message) => Some(message),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => None,
        Err(error) => panic!("the server does not answer: {error}"),
    }
}

/// Checks that the lease lapses by itself when its hive is gone.
async fn check_time_to_live(bus: &Bus, claim: PortClaim) {
    let message = stored(bus, claim.port).await.expect("the lease is there");
    assert_eq!(message.sequence, claim.revision);
    assert_eq!(message.headers.get("Nats-TTL").map(|value| value.as_str()), Some("660"));
}

#[tokio::test]
async fn eight_claimers_of_300_ports_never_get_one_twice() {
    const PORTS: u16 = 300;
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let claimers = (0..8_u16).map(async |claimer| {
        let leases = PortLeases::new(&server.connect("rbee").await, &host(), LEASE);
        let mine = lease(&format!("worker-{claimer}"));
        let mut claimed = Vec::new();
        for offset in 0..PORTS {
            // Each begins elsewhere and all meet everywhere.
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
            assert_eq!(owners.insert(port, worker.clone()), None, "port {port} was given twice");
        }
    }
    assert_eq!(owners.len(), usize::from(PORTS));
    for (key, lease) in Registry::ports(&bus).all().await.expect("read") {
        let port: u16 = key.strip_prefix("workshop.").and_then(|port| port.parse().ok()).expect("a key of the host");
        assert_eq!(owners[&port], lease.worker);
    }
}

#[tokio::test]
async fn two_who_claim_one_free_port_at_once_do_not_both_get_it() {
    let server = NatsServer::start().await;
    let (one, two) = (server.bus("rbee").await, server.connect("rbee").await);
    let (one, two) = (PortLeases::new(&one, &host(), LEASE), PortLeases::new(&two, &host(), LEASE));
    let (by_one, by_two) = (lease("one"), lease("two"));
    for port in 9_000..9_050 {
        match futures::join!(one.claim(port, &by_one, 0), two.claim(port, &by_two, 0)) {
            (Ok(_), Err(ClaimError::Held(holder))) => assert_eq!(holder, by_one),
            (Err(ClaimError::Held(holder)), Ok(_)) => assert_eq!(holder, by_two),
            both => panic!("one must get the port and one must be told who has it: {both:?}"),
        }
    }
}

#[tokio::test]
async fn who_claims_a_held_port_is_told_who_holds_it() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let leases = PortLeases::new(&bus, &host(), LEASE);
    leases.claim(8_080, &lease("first"), 0).await.expect("claimed");
    let error = leases.claim(8_080, &lease("second"), 0).await.expect_err("held");
    assert_eq!(error.to_string(), "port is leased by hive hive for worker first");
    assert!(matches!(error, ClaimError::Held(holder) if holder == lease("first")));
}

#[tokio::test]
async fn hosts_have_ports_of_their_own() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    for host in ["one", "two"] {
        PortLeases::new(&bus, &name(host), LEASE).claim(8_080, &lease("w"), 0).await.expect("claimed");
    }
}

#[tokio::test]
async fn a_released_port_is_claimed_again_at_once_by_its_revision_and_lapses_as_any_lease() {
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
async fn a_released_port_is_claimed_again_at_once_by_who_knows_nothing_of_it() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let leases = PortLeases::new(&bus, &host(), LEASE);
    let first = leases.claim(8_080, &lease("first"), 0).await.expect("claimed");
    leases.release(first, &lease("first")).await.expect("released");
    let second = leases.claim(8_080, &lease("second"), 0).await.expect("claimed");
    check_time_to_live(&bus, second).await;
}

#[tokio::test]
async fn a_released_port_is_claimed_when_the_notice_of_its_release_has_lapsed() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let leases = PortLeases::new(&bus, &host(), LEASE);
    let claim = leases.claim(8_080, &lease("first"), 0).await.expect("claimed");
    let revision = leases.release(claim, &lease("first")).await.expect("released");
    eventually("the notice of the release is gone", PATIENCE, async || stored(&bus, 8_080).await.is_none()).await;
    let again = leases.claim(8_080, &lease("second"), revision).await.expect("claimed");
    check_time_to_live(&bus, again).await;
}

#[tokio::test]
async fn a_lease_that_lapsed_is_free_and_the_next_one_lapses_too() {
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
async fn a_renewal_prolongs_the_lease_also_when_the_word_of_the_last_one_was_lost() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let leases = PortLeases::new(&bus, &host(), LEASE);
    let first = leases.claim(8_080, &lease("w"), 0).await.expect("claimed");
    let second = leases.renew(first, &lease("w")).await.expect("renewed");
    check_time_to_live(&bus, second).await;
    // As if we had never heard of the second.
    let third = leases.renew(first, &lease("w")).await.expect("renewed");
    assert!(third.revision > second.revision);
    check_time_to_live(&bus, third).await;
}

#[tokio::test]
async fn a_lease_that_went_to_another_is_neither_renewed_nor_released_by_who_had_it() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let leases = PortLeases::new(&bus, &host(), LEASE);
    let old = leases.claim(8_080, &lease("old"), 0).await.expect("claimed");
    let revision = leases.release(old, &lease("old")).await.expect("released");
    let new = leases.claim(8_080, &lease("new"), revision).await.expect("claimed");
    assert!(leases.renew(old, &lease("old")).await.is_err());
    assert!(leases.release(old, &lease("old")).await.is_err());
    assert_eq!(Registry::ports(&bus).get("workshop.8080").await.expect("read"), Some(lease("new")));
    leases.renew(new, &lease("new")).await.expect("still the new one's");
}

#[tokio::test]
async fn a_release_that_a_renewal_overtook_still_gives_the_port_back() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let leases = PortLeases::new(&bus, &host(), LEASE);
    let known = leases.claim(8_080, &lease("w"), 0).await.expect("claimed");
    leases.renew(known, &lease("w")).await.expect("renewed");
    let revision = leases.release(known, &lease("w")).await.expect("released");
    leases.claim(8_080, &lease("next"), revision).await.expect("claimed");
}

#[tokio::test]
async fn a_release_of_a_port_that_is_free_already_is_none() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let leases = PortLeases::new(&bus, &host(), LEASE);
    let claim = leases.claim(8_080, &lease("w"), 0).await.expect("claimed");
    let revision = leases.release(claim, &lease("w")).await.expect("released");
    assert_eq!(leases.release(claim, &lease("w")).await.expect("released already"), revision);
}

#[tokio::test]
async fn a_lease_survives_a_restart_of_the_server() {
    let mut server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let claim = PortLeases::new(&bus, &host(), LEASE).claim(8_080, &lease("w"), 0).await.expect("claimed");
    server.kill().await;
    server.restart().await;
    let leases = PortLeases::new(&server.connect("rbee").await, &host(), LEASE);
    assert!(matches!(leases.claim(8_080, &lease("other"), 0).await, Err(ClaimError::Held(_))));
    leases.renew(claim, &lease("w")).await.expect("renewed");
}
