//! What an earlier run of this hive left: its processes are ended, its leases and records removed.
//!
//! A hive that was killed leaves workers that go on; until they can be adopted they are ended here, and their jobs come
//! back to the queue by themselves.

use std::fs;

use rbee_nats::{Bus, BusError, PortClaim, PortLeases, Registry};
use rbee_schema::{HiveName, HostName, WorkerName, WorkerRecord};
use rustix::process::{Pid, PidfdFlags, Signal};
use tracing::{info, warn};

/// Buries everything that earlier runs of `hive` left on this machine.
pub(crate) async fn bury(bus: &Bus, hive: &HiveName, host: &HostName) -> Result<(), BusError> {
    let workers = Registry::workers(bus);
    let prefix = format!("{hive}.");
    for (key, record) in workers.all().await? {
        let Some(worker) = key.strip_prefix(&prefix).and_then(|name| name.parse().ok()) else { continue };
        end(&worker, &record);
        workers.remove(&key).await?;
    }
    release_leases(bus, hive, host).await
}

fn end(worker: &WorkerName, record: &WorkerRecord) {
    let Some(pid) = record.pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) else { return };
    // Take hold of the process first, then look whether it is the one.
    let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return };
    let command = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    if !command.split(|byte| *byte == 0).any(|argument| argument == worker.as_str().as_bytes()) {
        return;
    }
    match rustix::process::pidfd_send_signal(&pidfd, Signal::KILL) {
        Ok(()) => info!(%worker, pid = record.pid, "a worker of an earlier run was ended"),
        Err(error) => warn!(%worker, pid = record.pid, %error, "a worker of an earlier run could not be ended"),
    }
}

async fn release_leases(bus: &Bus, hive: &HiveName, host: &HostName) -> Result<(), BusError> {
    let leases = PortLeases::of(bus, host);
    for (key, lease) in Registry::ports(bus).all().await? {
        let port = key.strip_prefix(&format!("{host}.")).and_then(|port| port.parse().ok());
        if let (Some(port), true) = (port, lease.hive == *hive) {
            leases.release(PortClaim { port, revision: 0 }, &lease).await?;
            info!(port, worker = %lease.worker, "a leaked lease was released");
        }
    }
    Ok(())
}
