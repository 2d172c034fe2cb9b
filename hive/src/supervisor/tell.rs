//! What a hive tells about itself.

use rbee_nats::{Registry, Subject};
use rbee_schema::{
    ByteSize, Event, FreeResources, HiveEvent, HiveHeartbeat, HiveRecord, ModelKind, PortEvent, Protocol,
};
use tracing::{debug, info};

use super::{Supervisor, number, version};
use crate::{http::Health, metrics, notify};

impl Supervisor {
    pub(super) fn publish(&self, event: HiveEvent) {
        self.outbox.publish(&Event::Hive(self.config.name.clone(), event));
    }

    pub(super) fn publish_port(&self, port: u16, event: PortEvent) {
        self.outbox.publish(&Event::Port(self.config.name.clone(), port, event));
    }

    pub(super) fn join(&self) {
        let (first_port, last_port) = (*self.config.ports.start(), *self.config.ports.end());
        self.publish(HiveEvent::Joined {
            epoch: self.epoch,
            version: version(),
            host: self.config.host.clone(),
            first_port,
            last_port,
        });
        // Whoever sees the key finds the story complete.
        self.show_presence();
        info!(hive = %self.config.name, epoch = self.epoch, first_port, last_port, "the hive takes commands");
        self.health.send_replace(Health::Online);
        notify::ready(&self.status());
    }

    /// What the registry says about this hive; the key lapses when nobody renews it.
    pub(super) fn show_presence(&self) {
        let record = HiveRecord {
            epoch: self.epoch,
            version: version(),
            host: self.config.host.clone(),
            first_port: *self.config.ports.start(),
            last_port: *self.config.ports.end(),
            pid: std::process::id(),
            state_id: self.ledger.id().to_owned(),
            draining: self.draining,
            degraded: self.degraded.clone(),
            memory: ByteSize(self.inventory.as_ref().map_or(0, |inventory| inventory.memory_total)),
            cores: self.inventory.as_ref().map_or(0, |inventory| inventory.cores),
            limit_method: Some(self.enforcer.by()),
            metrics: self.config.metrics.clone(),
            protocol: Protocol::OURS,
            labels: self.config.labels.clone(),
            devices: self.config.devices.clone(),
            kinds: vec![ModelKind::Text, ModelKind::Embeddings],
            max_workers: Some(self.config.max_workers),
            clock_skew_ms: self.clock_skew_ms,
        };
        let key = self.config.name.as_str();
        let lapses = self.config.rules.timers.presence_lapse;
        Registry::hives(&self.bus).put_ordered(&self.outbox, key, &record, Some(lapses));
    }

    /// How it is, in one line.
    pub(super) fn status(&self) -> String {
        let workers = self.charges.len();
        match (&self.degraded, self.draining) {
            (_, true) => format!("drains {workers} workers"),
            (Some(why), false) => format!("degraded ({why}), {workers} workers"),
            (None, false) => format!("online, {workers} workers"),
        }
    }

    /// What is left for further workers, as it was when the machine was last looked at.
    fn free(&self) -> Option<FreeResources> {
        let inventory = self.inventory.as_ref()?;
        Some(FreeResources {
            memory: inventory.memory_available.saturating_sub(self.memory_reserved(None)),
            disk: inventory.disk_free,
            gpu_memory: inventory.cards.iter().map(|card| card.free).max(),
        })
    }

    /// Tells a heartbeat, where there is somebody to hear it: without a connection it would only pile up.
    pub(super) async fn beat(&mut self, is_online: bool) {
        self.look_at_machine();
        let late = self.lateness.worst();
        metrics::workers(self.charges.values().map(|charge| charge.worker.phase()));
        metrics::ports(self.ports.in_use(), self.ports.total());
        metrics::late(late);
        if !is_online {
            return;
        }
        let beat = HiveHeartbeat {
            epoch: self.epoch,
            workers: number(self.charges.values().filter(|charge| charge.process.is_some()).count()),
            ports_leased: self.ports.in_use(),
            ports_total: self.ports.total(),
            late_ms: u64::try_from(late.as_millis()).unwrap_or(u64::MAX),
            free: self.free(),
        };
        if let Err(error) = self.bus.publish(&Subject::HiveHeartbeat(self.config.name.clone()), &beat).await {
            debug!(%error, "a heartbeat is lost");
        }
    }
}
