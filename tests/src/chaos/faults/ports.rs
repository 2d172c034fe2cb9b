//! A port is held by a stranger, or leased for nobody.

use std::{net::TcpListener, time::SystemTime};

use futures::FutureExt as _;
use rbee_nats::Registry;
use rbee_schema::{HiveRecord, PortEvent, PortLease};

use super::{AT_ONCE, timers};
use crate::{
    chaos::{Fault, Measured, Needs, Story},
    fleet::Fleet,
    wait::{PATIENCE, eventually},
};

pub(super) const FOREIGN_LISTENER: Fault = Fault {
    name: "port-foreign",
    injected: "a program that is none of ours listens on the port that is next",
    outcome: "the port is skipped, the worker gets the next",
    detected_within: AT_ONCE,
    recovered_within: AT_ONCE,
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| foreign_listener(fleet).boxed_local(),
};

async fn foreign_listener(fleet: &mut Fleet) -> Measured {
    fleet.start_hive(&fleet.one(&timers(""))).await;
    let (first, second) = (fleet.ports.port(0), fleet.ports.port(1));
    let stranger = TcpListener::bind(("127.0.0.1", first)).expect("the port is free");
    let mut story = Story::of(&fleet.bus).await;
    let injected = SystemTime::now();
    fleet.spawn_mock("a", "m", "").await;
    let skipped = |event: &PortEvent| matches!(event, PortEvent::Skipped { .. }).then_some(());
    let (_, told) = story.port(first, "skipped", skipped).await;
    let mended = story.named("a", "spawned").await;
    assert_eq!(fleet.ready_in("a", 1).await.port, Some(second));
    drop(stranger);
    Measured::between(injected, told, mended)
}

pub(super) const LEAKED_LEASE: Fault = Fault {
    name: "lease-leaked",
    injected: "a lease of the hive for a worker that is not there",
    outcome: "told as reclaimed, and the port is free",
    detected_within: AT_ONCE,
    recovered_within: AT_ONCE,
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| leaked_lease(fleet).boxed_local(),
};

async fn leaked_lease(fleet: &mut Fleet) -> Measured {
    let hive = fleet.start_hive(&fleet.one(&timers(""))).await;
    reclaimed(fleet, &hive, "nobody").await
}

pub(super) const STRAY_LEASE: Fault = Fault {
    name: "lease-stray",
    injected: "a second lease of the hive for a worker that lives and has another port",
    outcome: "told as reclaimed, and the port is free; the worker keeps its own",
    detected_within: AT_ONCE,
    recovered_within: AT_ONCE,
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| stray_lease(fleet).boxed_local(),
};

async fn stray_lease(fleet: &mut Fleet) -> Measured {
    let hive = fleet.start_hive(&fleet.one(&timers(""))).await;
    let before = fleet.mocks_ready(&["a"], "m", "").await;
    let measured = reclaimed(fleet, &hive, "a").await;
    assert_eq!(fleet.record("a").await.as_ref(), before.first());
    measured
}

/// Leases a port for a worker that does not have it, and waits until the hive has taken it back.
async fn reclaimed(fleet: &Fleet, hive: &HiveRecord, worker: &str) -> Measured {
    let port = fleet.ports.port(5);
    let lease = lease(hive, worker);
    let (leases, key) = (Registry::ports(&fleet.bus), format!("{}.{port}", hive.host));
    let mut story = Story::of(&fleet.bus).await;
    let injected = SystemTime::now();
    leases.put(&key, &lease).await.expect("stored");
    let reclaimed = |event: &PortEvent| matches!(event, PortEvent::Reclaimed { .. }).then_some(());
    let (_, told) = story.port(port, "reclaimed", reclaimed).await;
    eventually("the lease is gone", PATIENCE, async || leases.get(&key).await.is_ok_and(|lease| lease.is_none())).await;
    Measured::between(injected, told, SystemTime::now())
}

/// A lease as hive `one` would write it.
pub(super) fn lease(hive: &HiveRecord, worker: &str) -> PortLease {
    let name = worker.parse().expect("a name of a test is valid");
    PortLease { hive: "one".parse().expect("a name"), hive_epoch: hive.epoch, worker: name }
}
