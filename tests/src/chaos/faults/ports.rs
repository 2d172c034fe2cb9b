//! A port is in use by another program, or leased for an unknown worker.

use std::{net::TcpListener, time::SystemTime};

use futures::FutureExt as _;
use rbee_nats::Registry;
use rbee_schema::{HiveRecord, PortEvent, PortLease};

use super::setup::{AT_ONCE, timers};
use crate::{
    chaos::{events::EventReader, fault::Fault, measured::Measured, needs::Needs},
    fleet::Fleet,
    wait::{PATIENCE, eventually},
};

pub(in crate::chaos) const FOREIGN_LISTENER: Fault = Fault {
    name: "port-foreign",
    injected: "another program listens on the port that the hive would take next",
    outcome: "the hive skips the port, and the worker gets the next one",
    detected_within: AT_ONCE,
    recovered_within: AT_ONCE,
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| foreign_listener(fleet).boxed_local(),
};

async fn foreign_listener(fleet: &mut Fleet) -> Measured {
    fleet.start_hive(&fleet.hive_one(&timers(""))).await;
    let (first, second) = (fleet.ports.port(0), fleet.ports.port(1));
    let other_program = TcpListener::bind(("127.0.0.1", first)).expect("the port is free");
    let mut events = EventReader::start(&fleet.bus).await;
    let injected = SystemTime::now();
    fleet.spawn_mock("a", "m", "").await;
    let skipped = |event: &PortEvent| matches!(event, PortEvent::Skipped { .. }).then_some(());
    let (_, detected) = events.port_event(first, "skipped", skipped).await;
    let recovered = events.worker_event_named("a", "spawned").await;
    assert_eq!(fleet.ready_in("a", 1).await.port, Some(second));
    drop(other_program);
    Measured::between(injected, detected, recovered)
}

pub(in crate::chaos) const LEAKED_LEASE: Fault = Fault {
    name: "lease-leaked",
    injected: "a lease of the hive for a worker that does not exist",
    outcome: "the lease is reported as reclaimed, and the port is free",
    detected_within: AT_ONCE,
    recovered_within: AT_ONCE,
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| leaked_lease(fleet).boxed_local(),
};

async fn leaked_lease(fleet: &mut Fleet) -> Measured {
    let hive = fleet.start_hive(&fleet.hive_one(&timers(""))).await;
    reclaimed(fleet, &hive, "nobody").await
}

pub(in crate::chaos) const STRAY_LEASE: Fault = Fault {
    name: "lease-stray",
    injected: "a second lease of the hive for a worker that runs on another port",
    outcome: "the lease is reported as reclaimed, and the port is free; the worker keeps its own lease",
    detected_within: AT_ONCE,
    recovered_within: AT_ONCE,
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| stray_lease(fleet).boxed_local(),
};

async fn stray_lease(fleet: &mut Fleet) -> Measured {
    let hive = fleet.start_hive(&fleet.hive_one(&timers(""))).await;
    let before = fleet.mocks_ready(&["a"], "m", "").await;
    let measured = reclaimed(fleet, &hive, "a").await;
    assert_eq!(fleet.record("a").await.as_ref(), before.first());
    measured
}

/// Writes a lease for a worker that does not have the port, and waits until the hive has reclaimed it.
async fn reclaimed(fleet: &Fleet, hive: &HiveRecord, worker: &str) -> Measured {
    let port = fleet.ports.port(5);
    let lease = lease(hive, worker);
    let (leases, key) = (Registry::ports(&fleet.bus), format!("{}.{port}", hive.host));
    let mut events = EventReader::start(&fleet.bus).await;
    let injected = SystemTime::now();
    leases.put(&key, &lease).await.expect("stored");
    let reclaimed = |event: &PortEvent| matches!(event, PortEvent::Reclaimed { .. }).then_some(());
    let (_, detected) = events.port_event(port, "reclaimed", reclaimed).await;
    eventually("the lease is gone", PATIENCE, async || leases.get(&key).await.is_ok_and(|lease| lease.is_none())).await;
    Measured::between(injected, detected, SystemTime::now())
}

/// A lease in the form in which hive `one` writes it.
pub(super) fn lease(hive: &HiveRecord, worker: &str) -> PortLease {
    let name = worker.parse().expect("a name of a test is valid");
    PortLease { hive: "one".parse().expect("a name"), hive_epoch: hive.epoch, worker: name }
}
