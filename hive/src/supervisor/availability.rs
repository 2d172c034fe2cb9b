//! Availability of the hive for further workers, and the request to end it.

use std::time::Instant;

use rbee_schema::{HostName, StopMode};
use tokio::sync::watch;

use crate::http::Health;

/// Drain state and end of the hive.
pub(super) struct Availability {
    /// Mode in which workers stop, at least, while the hive drains and refuses further workers.
    draining: Option<StopMode>,
    /// `true` while a queen leads, as far as the registry says.
    pub(super) has_leader: bool,
    /// Time given to the leading queen to replace the workers of a draining hive.
    evacuation: Option<Evacuation>,
    /// Reason to end that came over the bus.
    end: Option<End>,
    connection: Connection,
    health: watch::Sender<Health>,
}

/// State of the bus as it concerns the health of the hive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Connection {
    /// The hive has not announced itself yet.
    Recovering,
    Away,
    /// The connection stands, and what the hive publishes is not stored.
    StoresNothing,
    Online,
}

/// Deadline after which a draining hive drains the workers that the queen has not moved.
pub(super) struct Evacuation {
    pub(super) deadline: Instant,
    pub(super) why: String,
}

/// Reason for a hive to end without a signal from the operating system.
pub(super) enum End {
    /// A shutdown command came over the bus, with its reason.
    Commanded(String),
    /// A newer hive of the same name runs on this host.
    Fenced(HostName),
}

impl Availability {
    pub(super) fn new(health: watch::Sender<Health>) -> Self {
        let connection = Connection::Recovering;
        Self { draining: None, has_leader: false, evacuation: None, end: None, connection, health }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.is_some()
    }

    /// Mode in which workers stop, at least: the weakest while the hive does not drain.
    pub(super) fn drain_mode(&self) -> StopMode {
        self.draining.unwrap_or(StopMode::Finish)
    }

    /// Refuses further workers from now on, and lets those that are stopped stop in this mode at least.
    pub(super) fn drain(&mut self, mode: StopMode) {
        self.draining = Some(mode);
        self.publish_health();
    }

    /// Takes workers again.
    pub(super) fn resume(&mut self) {
        self.draining = None;
        self.evacuation = None;
        self.publish_health();
    }

    /// Notes that the connection stands or is lost.
    pub(super) fn connected(&mut self, is_online: bool) {
        self.connection = if is_online { Connection::Online } else { Connection::Away };
        self.publish_health();
    }

    /// Notes whether the bus stores what the hive publishes, while the connection stands.
    pub(super) fn stores(&mut self, stores: bool) {
        self.connection = match (self.connection, stores) {
            (Connection::Online, false) => Connection::StoresNothing,
            (Connection::StoresNothing, true) => Connection::Online,
            _ => return,
        };
        self.publish_health();
    }

    fn publish_health(&self) {
        self.health.send_replace(match (self.connection, self.is_draining()) {
            (Connection::Away, _) => Health::BusAway,
            (Connection::StoresNothing, _) => Health::BusStoresNothing,
            (Connection::Recovering | Connection::Online, true) => Health::Draining,
            (Connection::Recovering, false) => Health::Recovering,
            (Connection::Online, false) => Health::Online,
        });
    }

    pub(super) fn evacuate(&mut self, evacuation: Evacuation) {
        self.evacuation = Some(evacuation);
    }

    pub(super) fn evacuation_deadline(&self) -> Option<Instant> {
        self.evacuation.as_ref().map(|evacuation| evacuation.deadline)
    }

    /// The evacuation whose time is over, once.
    pub(super) fn take_overdue(&mut self, now: Instant) -> Option<Evacuation> {
        self.evacuation.take_if(|evacuation| evacuation.deadline <= now)
    }

    pub(super) fn request_end(&mut self, end: End) {
        self.end = Some(end);
    }

    pub(super) fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }
}
