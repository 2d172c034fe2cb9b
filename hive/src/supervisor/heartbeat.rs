//! Messages of a hive about itself: its start, its record in the registry, its heartbeat.

use rbee_nats::{Registry, Subject};
use rbee_schema::{HiveEvent, HiveHeartbeat, HiveRecord, ModelKind, Protocol};
use tracing::{debug, info};

use super::state::Supervisor;
use crate::{metrics, notify};

impl Supervisor {
    pub(super) fn announce(&mut self) {
        let config = &self.hive.config;
        let (first_port, last_port) = (*config.ports.start(), *config.ports.end());
        let epoch = self.hive.epoch;
        let host = config.host.clone();
        self.hive.publish(HiveEvent::Joined { epoch, version: version(), host, first_port, last_port });
        // The key comes after the event: a reader of the key finds the events complete.
        self.publish_presence();
        info!(hive = %config.name, epoch, first_port, last_port, "the hive takes commands");
        self.availability.connected(true);
        notify::ready(&self.status());
    }

    /// Writes the hive's record to the registry. The record expires unless it is renewed.
    pub(super) fn publish_presence(&self) {
        let config = &self.hive.config;
        let record = HiveRecord {
            epoch: self.hive.epoch,
            version: version(),
            host: config.host.clone(),
            first_port: *config.ports.start(),
            last_port: *config.ports.end(),
            pid: std::process::id(),
            state_id: self.ledger.id().to_owned(),
            draining: self.availability.is_draining(),
            degraded: self.condition.degraded().map(str::to_owned),
            memory: self.machine.memory_total(),
            cores: self.machine.cores(),
            limit_method: Some(self.enforcer.by()),
            metrics: config.metrics.clone(),
            protocol: Protocol::OURS,
            labels: config.labels.clone(),
            devices: config.devices.clone(),
            kinds: vec![ModelKind::Text, ModelKind::Embeddings],
            max_workers: Some(config.max_workers),
            clock_skew_ms: self.machine.clock_skew_ms,
        };
        let (key, time_to_live) = (config.name.as_str(), config.rules.timers.presence_lapse);
        Registry::hives(&self.hive.bus).put_ordered(&self.hive.outbox, key, &record, Some(time_to_live));
    }

    /// State of the hive in one line, for the service manager.
    pub(super) fn status(&self) -> String {
        let workers = self.workers.len();
        match (self.condition.degraded(), self.availability.is_draining()) {
            (_, true) => format!("draining {workers} workers"),
            (Some(why), false) => format!("degraded ({why}), {workers} workers"),
            (None, false) => format!("online, {workers} workers"),
        }
    }

    /// Updates the gauges and sends a heartbeat. Without a connection none is sent: heartbeats would only pile up.
    pub(super) async fn send_heartbeat(&mut self, is_online: bool) {
        self.inspect_machine();
        let late = self.machine.lateness().worst();
        let ports = &self.ports.book;
        metrics::workers(self.workers.phases());
        metrics::ports(ports.in_use(), ports.total());
        metrics::late(late);
        metrics::lost_messages(self.hive.bus.lost_messages());
        self.availability.stores(self.hive.bus.storage_problem().is_none());
        if !is_online {
            return;
        }
        let beat = HiveHeartbeat {
            epoch: self.hive.epoch,
            workers: self.workers.running(),
            ports_leased: ports.in_use(),
            ports_total: ports.total(),
            late_ms: u64::try_from(late.as_millis()).unwrap_or(u64::MAX),
            free: self.machine.free(self.workers.memory_reserved(None)),
        };
        let subject = Subject::HiveHeartbeat(self.hive.config.name.clone());
        if let Err(error) = self.hive.bus.publish(&subject, &beat).await {
            debug!(%error, "failed to send a heartbeat");
        }
    }
}

fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}
