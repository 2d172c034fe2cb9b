//! What a fleet tells, as it tells it, with the time at which the server stored it.

use std::time::SystemTime;

use rbee_nats::{Bus, EventReader, EventRecord, Subject};
use rbee_schema::{Event, HiveEvent, PortEvent, QueenEvent, WorkerEvent};

use crate::wait::soon;

/// The events of a fleet from one moment on.
#[derive(Debug)]
pub struct Story {
    bus: Bus,
    events: EventReader,
}

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// When the server stored it.
    pub at: SystemTime,
    /// What it says.
    pub event: Event,
}

impl Told {
    /// Reads an event of a queen, a hive, a worker or a port; `None` for others.
    pub(super) fn read(bus: &Bus, record: &EventRecord) -> Option<Self> {
        let body = &record.body;
        let event = match bus.parse(&record.subject)? {
            Subject::QueenEvent(queen, _) => Event::Queen(queen, serde_json::from_slice(body).ok()?),
            Subject::HiveEvent(hive, _) => Event::Hive(hive, serde_json::from_slice(body).ok()?),
            Subject::WorkerEvent(hive, worker, _) => Event::Worker(hive, worker, serde_json::from_slice(body).ok()?),
            Subject::PortEvent(hive, port, _) => Event::Port(hive, port, serde_json::from_slice(body).ok()?),
            _ => return None,
        };
        Some(Self { at: record.stored, event })
    }
}

impl Story {
    /// The events that are yet to come.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn of(bus: &Bus) -> Self {
        let events = EventReader::since(bus, "rbee.evt.>", None).await.expect("the server answers");
        Self { bus: bus.clone(), events }
    }

    /// The next event of a queen, a hive, a worker or a port.
    async fn next(&mut self) -> Told {
        loop {
            let record = self.events.next().await.expect("the server answers").expect("events do not end");
            if let Some(told) = Told::read(&self.bus, &record) {
                return told;
            }
        }
    }

    /// Reads on until an event is picked.
    ///
    /// # Panics
    /// When none is.
    pub async fn until<T>(&mut self, what: &str, mut pick: impl FnMut(&Event) -> Option<T>) -> (T, SystemTime) {
        let picked = async {
            loop {
                let told = self.next().await;
                if let Some(picked) = pick(&told.event) {
                    return (picked, told.at);
                }
            }
        };
        soon(what, picked).await
    }

    /// Reads on until both of these were told, whichever comes first: each of those who tell waits for the server by
    /// itself. Returns when.
    ///
    /// # Panics
    /// When one of them is not told.
    pub(super) async fn both(
        &mut self,
        what: &str,
        is_one: impl Fn(&Event) -> bool,
        is_other: impl Fn(&Event) -> bool,
    ) -> (SystemTime, SystemTime) {
        let (mut one, mut other) = (None, None);
        while one.is_none() || other.is_none() {
            let pick = |event: &Event| if is_one(event) { Some(true) } else { is_other(event).then_some(false) };
            let (is_one, at) = self.until(what, pick).await;
            if is_one {
                one.get_or_insert(at)
            } else {
                other.get_or_insert(at)
            };
        }
        one.zip(other).expect("both were told")
    }

    /// Reads on until an event of this worker is picked.
    ///
    /// # Panics
    /// When none is.
    pub async fn worker<T>(
        &mut self,
        name: &str,
        what: &str,
        mut pick: impl FnMut(&WorkerEvent) -> Option<T>,
    ) -> (T, SystemTime) {
        self.until(&format!("`{what}` of worker {name}"), |event| match event {
            Event::Worker(_, worker, event) if worker.as_str() == name => pick(event),
            _ => None,
        })
        .await
    }

    /// Reads on until this worker tells an event of this name; returns when.
    ///
    /// # Panics
    /// When it does not.
    pub async fn named(&mut self, worker: &str, name: &str) -> SystemTime {
        self.worker(worker, name, |event| (event.name() == name).then_some(())).await.1
    }

    /// Reads on until an event of hive `one` itself is picked.
    ///
    /// # Panics
    /// When none is.
    pub async fn hive<T>(&mut self, what: &str, mut pick: impl FnMut(&HiveEvent) -> Option<T>) -> (T, SystemTime) {
        self.until(&format!("`{what}` of the hive"), |event| match event {
            Event::Hive(hive, event) if hive.as_str() == "one" => pick(event),
            _ => None,
        })
        .await
    }

    /// Reads on until an event of a queen is picked.
    ///
    /// # Panics
    /// When none is.
    pub async fn queen<T>(&mut self, what: &str, mut pick: impl FnMut(&QueenEvent) -> Option<T>) -> (T, SystemTime) {
        self.until(&format!("`{what}` of a queen"), |event| match event {
            Event::Queen(_, event) => pick(event),
            _ => None,
        })
        .await
    }

    /// Reads on until an event of this port is picked.
    ///
    /// # Panics
    /// When none is.
    pub async fn port<T>(
        &mut self,
        number: u16,
        what: &str,
        mut pick: impl FnMut(&PortEvent) -> Option<T>,
    ) -> (T, SystemTime) {
        self.until(&format!("`{what}` of port {number}"), |event| match event {
            Event::Port(_, port, event) if *port == number => pick(event),
            _ => None,
        })
        .await
    }
}
