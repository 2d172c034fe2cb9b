//! The events of a fleet in the order in which the server stored them, each with the time of that.

use std::time::SystemTime;

use rbee_nats::{Bus, EventRecord, Subject};
use rbee_schema::{Event, HiveEvent, PortEvent, QueenEvent, WorkerEvent};

use crate::wait::soon;

/// A reader of the events that a fleet publishes from its start on.
#[derive(Debug)]
pub struct EventReader {
    bus: Bus,
    events: rbee_nats::EventReader,
}

/// An event of a queen, a hive, a worker or a port.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEvent {
    /// Time at which the server stored the event.
    pub stored_at: SystemTime,
    /// The event.
    pub event: Event,
}

impl StoredEvent {
    /// Parses an event; `None` for events of other families.
    pub(super) fn parse(bus: &Bus, record: &EventRecord) -> Option<Self> {
        let body = &record.body;
        let event = match bus.parse(&record.subject)? {
            Subject::QueenEvent(queen, _) => Event::Queen(queen, serde_json::from_slice(body).ok()?),
            Subject::HiveEvent(hive, _) => Event::Hive(hive, serde_json::from_slice(body).ok()?),
            Subject::WorkerEvent(hive, worker, _) => Event::Worker(hive, worker, serde_json::from_slice(body).ok()?),
            Subject::PortEvent(hive, port, _) => Event::Port(hive, port, serde_json::from_slice(body).ok()?),
            _ => return None,
        };
        Some(Self { stored_at: record.stored, event })
    }
}

impl EventReader {
    /// Starts to read; earlier events are left out.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn start(bus: &Bus) -> Self {
        let events = rbee_nats::EventReader::since(bus, "rbee.evt.>", None).await.expect("the server answers");
        Self { bus: bus.clone(), events }
    }

    async fn next(&mut self) -> StoredEvent {
        loop {
            let record = self.events.next().await.expect("the server answers").expect("events do not end");
            if let Some(event) = StoredEvent::parse(&self.bus, &record) {
                return event;
            }
        }
    }

    /// Reads until `pick` returns something for an event; returns that and the time at which the event was stored.
    ///
    /// # Panics
    /// When no event is picked in time.
    pub async fn find<T>(&mut self, what: &str, mut pick: impl FnMut(&Event) -> Option<T>) -> (T, SystemTime) {
        let picked = async {
            loop {
                let stored = self.next().await;
                if let Some(picked) = pick(&stored.event) {
                    return (picked, stored.stored_at);
                }
            }
        };
        soon(what, picked).await
    }

    /// Reads until both events were found, in either order: their publishers use different connections. Returns the times
    /// at which they were stored.
    ///
    /// # Panics
    /// When one of them does not come in time.
    pub(super) async fn find_both(
        &mut self,
        what: &str,
        is_one: impl Fn(&Event) -> bool,
        is_other: impl Fn(&Event) -> bool,
    ) -> (SystemTime, SystemTime) {
        let (mut one, mut other) = (None, None);
        while one.is_none() || other.is_none() {
            let pick = |event: &Event| if is_one(event) { Some(true) } else { is_other(event).then_some(false) };
            let (is_one, at) = self.find(what, pick).await;
            if is_one {
                one.get_or_insert(at)
            } else {
                other.get_or_insert(at)
            };
        }
        one.zip(other).expect("both were found")
    }

    /// Reads until an event of this worker is picked.
    ///
    /// # Panics
    /// When no event is picked in time.
    pub async fn worker_event<T>(
        &mut self,
        name: &str,
        what: &str,
        mut pick: impl FnMut(&WorkerEvent) -> Option<T>,
    ) -> (T, SystemTime) {
        self.find(&format!("`{what}` of worker {name}"), |event| match event {
            Event::Worker(_, worker, event) if worker.as_str() == name => pick(event),
            _ => None,
        })
        .await
    }

    /// Reads until the event `name` of this worker; returns the time at which it was stored.
    ///
    /// # Panics
    /// When it does not come in time.
    pub async fn worker_event_named(&mut self, worker: &str, name: &str) -> SystemTime {
        self.worker_event(worker, name, |event| (event.name() == name).then_some(())).await.1
    }

    /// Reads until an event of hive `one` itself is picked.
    ///
    /// # Panics
    /// When no event is picked in time.
    pub async fn hive_event<T>(
        &mut self,
        what: &str,
        mut pick: impl FnMut(&HiveEvent) -> Option<T>,
    ) -> (T, SystemTime) {
        self.find(&format!("`{what}` of the hive"), |event| match event {
            Event::Hive(hive, event) if hive.as_str() == "one" => pick(event),
            _ => None,
        })
        .await
    }

    /// Reads until an event of a queen is picked.
    ///
    /// # Panics
    /// When no event is picked in time.
    pub async fn queen_event<T>(
        &mut self,
        what: &str,
        mut pick: impl FnMut(&QueenEvent) -> Option<T>,
    ) -> (T, SystemTime) {
        self.find(&format!("`{what}` of a queen"), |event| match event {
            Event::Queen(_, event) => pick(event),
            _ => None,
        })
        .await
    }

    /// Reads until an event of this port is picked.
    ///
    /// # Panics
    /// When no event is picked in time.
    pub async fn port_event<T>(
        &mut self,
        number: u16,
        what: &str,
        mut pick: impl FnMut(&PortEvent) -> Option<T>,
    ) -> (T, SystemTime) {
        self.find(&format!("`{what}` of port {number}"), |event| match event {
            Event::Port(_, port, event) if *port == number => pick(event),
            _ => None,
        })
        .await
    }
}
