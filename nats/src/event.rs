//! Events: their subjects and bodies, and their reader, from history or as they are stored.

use std::time::SystemTime;

use async_nats::jetstream::{
    self,
    consumer::{DeliverPolicy, push},
    message::PublishMessage,
    stream::LastRawMessageErrorKind,
};
use bytes::Bytes;
use futures::StreamExt as _;
use rbee_schema::Event;
use tracing::warn;

use crate::{
    Bus, BusError, Namespace, Subject,
    batch::{Position, StoredMessage},
    bus::json,
    recovery::Recovery,
};

impl Bus {
    /// Subject and body of an event.
    pub(crate) fn event_message(&self, event: &Event) -> (String, Bytes) {
        let (subject, body) = match event {
            Event::Queen(queen, event) => (Subject::QueenEvent(queen.clone(), event.name().to_owned()), json(event)),
            Event::Hive(hive, event) => (Subject::HiveEvent(hive.clone(), event.name().to_owned()), json(event)),
            Event::Worker(hive, worker, event) => {
                (Subject::WorkerEvent(hive.clone(), worker.clone(), event.name().to_owned()), json(event))
            }
            Event::Port(hive, port, event) => {
                (Subject::PortEvent(hive.clone(), *port, event.name().to_owned()), json(event))
            }
            Event::Model(model, event) => (Subject::ModelEvent(model.clone(), event.name().to_owned()), json(event)),
            Event::Tenant(tenant, event) => {
                (Subject::TenantEvent(tenant.clone(), event.name().to_owned()), json(event))
            }
            Event::Job(tenant, job, event) => {
                (Subject::JobEvent(tenant.clone(), job.clone(), event.name().to_owned()), json(event))
            }
            Event::Alert(kind, event) => (Subject::AlertEvent(*kind, event.name().to_owned()), json(event)),
        };
        (self.subject(&subject), body)
    }

    /// Stores an event at once. The server stores it once for each `id`.
    ///
    /// # Errors
    /// The server does not store it.
    pub(crate) async fn store_event(&self, event: &Event, id: &str) -> Result<(), BusError> {
        let (subject, body) = self.event_message(event);
        let stored = self.store(subject.clone(), PublishMessage::build().payload(body).message_id(id)).await;
        stored.map(drop).map_err(|error| BusError::new(format!("store event {subject}"), error))
    }
}

impl Bus {
    /// The first events that match `filter` and were stored from `since` on, and at most `limit`. The cost does not depend on
    /// the number of other events.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn first_events(
        &self,
        filter: &str,
        since: SystemTime,
        limit: usize,
    ) -> Result<Vec<EventRecord>, BusError> {
        let batch = self.read_batch("events", filter, Position::Time(since), limit).await?;
        let record = |message: StoredMessage| EventRecord {
            subject: message.subject,
            body: message.payload,
            sequence: message.sequence,
            stored: message.stored,
        };
        Ok(batch.into_iter().map(record).collect())
    }

    /// The last event that matches `filter`, if there is one.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn last_event(&self, filter: &str) -> Result<Option<EventRecord>, BusError> {
        let failed = |cause: String| BusError::new("read events", cause);
        let stream = self.jetstream().get_stream_no_info(self.namespace().resource("events")).await;
        let stream = stream.map_err(|error| failed(error.to_string()))?;
        match stream.get_last_raw_message_by_subject(filter).await {
            Ok(last) => Ok(Some(EventRecord {
                subject: last.subject.to_string(),
                body: last.payload,
                sequence: last.sequence,
                stored: last.time.into(),
            })),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

/// Reads an event from its subject and body. `None` for seals, and for events that this version does not know.
pub fn read_event(namespace: &Namespace, subject: &str, body: &[u8]) -> Option<Event> {
    Some(match Subject::parse(namespace, subject)? {
        Subject::QueenEvent(queen, _) => Event::Queen(queen, serde_json::from_slice(body).ok()?),
        Subject::HiveEvent(hive, _) => Event::Hive(hive, serde_json::from_slice(body).ok()?),
        Subject::WorkerEvent(hive, worker, _) => Event::Worker(hive, worker, serde_json::from_slice(body).ok()?),
        Subject::PortEvent(hive, port, _) => Event::Port(hive, port, serde_json::from_slice(body).ok()?),
        Subject::ModelEvent(model, _) => Event::Model(model, serde_json::from_slice(body).ok()?),
        Subject::JobEvent(tenant, job, _) => Event::Job(tenant, job, serde_json::from_slice(body).ok()?),
        Subject::AlertEvent(kind, _) => Event::Alert(kind, serde_json::from_slice(body).ok()?),
        _ => return None,
    })
}

/// Stored event.
#[derive(Debug, Clone)]
pub struct EventRecord {
    /// Subject of the event.
    pub subject: String,
    /// Body as it was published.
    pub body: Bytes,
    /// Sequence in the stream `events`.
    pub sequence: u64,
    /// Time at which the server stored the event.
    pub stored: SystemTime,
}

/// Reader of events in the order in which they were stored: history first, then live. It survives restarts of the server.
pub struct EventReader {
    bus: Bus,
    filter: String,
    /// Position to continue at: after the last returned event.
    position: DeliverPolicy,
    /// `None` while the consumer must be created again.
    reader: Option<push::Ordered>,
    recovery: Recovery,
}

impl std::fmt::Debug for EventReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventReader")
            .field("filter", &self.filter)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl EventReader {
    /// Reads events that match `filter`, from `since` on. `None` reads only events that are stored from now on.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn since(bus: &Bus, filter: &str, since: Option<SystemTime>) -> Result<Self, BusError> {
        let position = match since {
            Some(time) => DeliverPolicy::ByStartTime { start_time: time.into() },
            // By sequence, so that no event is lost if the reader reconnects before the first one.
            None => after(last_sequence(bus).await?),
        };
        Self::from(bus, filter, position).await
    }

    async fn from(bus: &Bus, filter: &str, position: DeliverPolicy) -> Result<Self, BusError> {
        let recovery = Recovery::of_stream(bus, &bus.namespace().resource("events")).await;
        let mut events = Self { bus: bus.clone(), filter: filter.to_owned(), position, reader: None, recovery };
        events.reader = Some(events.read().await?);
        Ok(events)
    }

    /// Reads every event after this sequence.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn after(bus: &Bus, sequence: u64) -> Result<Self, BusError> {
        Self::from(bus, &bus.namespace().all_events(), after(sequence)).await
    }

    /// Next event. Never `None`, because events do not end. Cancel-safe: dropping the future loses no event.
    ///
    /// # Errors
    /// The connection is established, and the server has refused the reader for the time of the setting `reader`.
    pub async fn next(&mut self) -> Result<Option<EventRecord>, BusError> {
        loop {
            let Some(reader) = &mut self.reader else {
                match self.read().await {
                    Ok(reader) => {
                        self.reader = Some(reader);
                        self.recovery.succeeded();
                    }
                    Err(error) => self.recovery.failed(error).await?,
                }
                continue;
            };
            tokio::select! {
                () = self.recovery.interrupted() => self.reader = None,
                message = reader.next() => match message {
                    Some(Ok(message)) => {
                        let record = EventRecord::read(&message)?;
                        self.position = after(record.sequence);
                        return Ok(Some(record));
                    }
                    Some(Err(error)) => {
                        warn!(%error, "reading events failed; reopening the reader");
                        self.reader = None;
                    }
                    None => self.reader = None,
                }
            }
        }
    }

    /// Creates a consumer at the current position. The future borrows nothing, so that tasks on any thread may read.
    ///
    /// It is a push consumer with a heartbeat every 5 s. If the cluster member that holds the consumer is cut off, missing
    /// heartbeats reveal it after 10 s; a pull consumer would notice after a minute.
    fn read(&self) -> impl Future<Output = Result<push::Ordered, BusError>> + Send + use<> {
        let config = push::OrderedConfig {
            deliver_subject: self.bus.client().new_inbox(),
            filter_subject: self.filter.clone(),
            deliver_policy: self.position,
            ..push::OrderedConfig::default()
        };
        read(self.bus.clone(), config)
    }
}

async fn read(bus: Bus, config: push::OrderedConfig) -> Result<push::Ordered, BusError> {
    let stream = bus.namespace().resource("events");
    let consumer = bus.jetstream().create_consumer_on_stream(config, stream).await;
    let consumer = consumer.map_err(|error| BusError::new("read events", error))?;
    consumer.messages().await.map_err(|error| BusError::new("read events", error))
}

fn after(sequence: u64) -> DeliverPolicy {
    DeliverPolicy::ByStartSequence { start_sequence: sequence + 1 }
}

/// Last sequence of the stream `events`.
async fn last_sequence(bus: &Bus) -> Result<u64, BusError> {
    let stream = bus.jetstream().get_stream(bus.namespace().resource("events")).await;
    stream.map(|stream| stream.cached_info().state.last_sequence).map_err(|error| BusError::new("read events", error))
}

impl EventRecord {
    fn read(message: &jetstream::Message) -> Result<Self, BusError> {
        let info = message.info().map_err(|error| BusError::new("read events", error))?;
        let (sequence, stored) = (info.stream_sequence, info.published.into());
        Ok(Self { subject: message.subject.to_string(), body: message.payload.clone(), sequence, stored })
    }
}

/// Events that match `filter` and were stored from `since` until now.
///
/// # Errors
/// The server does not answer.
pub async fn recent_events(bus: &Bus, filter: &str, since: SystemTime) -> Result<Vec<EventRecord>, BusError> {
    let last = match bus.last_event(filter).await? {
        Some(last) if last.stored >= since => last,
        Some(_) | None => return Ok(Vec::new()),
    };
    let mut events = EventReader::since(bus, filter, Some(since)).await?;
    let mut found = Vec::new();
    while let Some(event) = events.next().await? {
        let sequence = event.sequence;
        found.push(event);
        if sequence >= last.sequence {
            break;
        }
    }
    Ok(found)
}
