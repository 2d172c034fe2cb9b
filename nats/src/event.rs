//! Events: published in order through an outbox, and read from history or as they are stored.

use std::time::{Duration, SystemTime};

use async_nats::jetstream::{
    self,
    consumer::{DeliverPolicy, push},
    context::PublishErrorKind,
    message::PublishMessage,
    stream::LastRawMessageErrorKind,
};
use bytes::Bytes;
use futures::StreamExt as _;
use rbee_schema::Event;
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tracing::{error, warn};
use uuid::Uuid;

use crate::{Bus, BusError, Subject, bus::json, recovery::Recovery};

/// First pause before a failed publish is repeated. Most failures are a short interruption of the connection.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// Longest pause before a failed publish is repeated. Pauses double up to it, so that events are stored within a second of
/// the server's return.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

impl Bus {
    /// Subject and body of an event.
    fn event_message(&self, event: &Event) -> (String, Bytes) {
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

/// Outbox: publishes events and registry entries in the order in which they are added, each until the server has stored it.
///
/// While the bus is unreachable, messages wait in the outbox. Every message has an id, so that a repeated publish is stored
/// once.
#[derive(Debug, Clone)]
pub struct Outbox {
    bus: Bus,
    sender: mpsc::Sender<Outgoing>,
}

#[derive(Debug)]
enum Outgoing {
    Message(String, PublishMessage),
    /// Notifies the waiter that everything before this mark is published.
    Mark(oneshot::Sender<()>),
}

impl Outbox {
    /// Starts the publishing task. It ends when every clone of the outbox is dropped and everything is published.
    pub fn start(bus: &Bus) -> Self {
        let (sender, receiver) = mpsc::channel(bus.settings().outbox as usize);
        tokio::spawn(publish_all(bus.clone(), receiver));
        Self { bus: bus.clone(), sender }
    }

    /// Publishes an event.
    pub fn publish(&self, event: &Event) {
        let (subject, body) = self.bus.event_message(event);
        self.send(subject, PublishMessage::build().payload(body));
    }

    /// Publishes an event that several processes may publish. The server stores it once for each `id`.
    pub fn publish_once(&self, event: &Event, id: &str) {
        let (subject, body) = self.bus.event_message(event);
        self.send_as(id, subject, PublishMessage::build().payload(body));
    }

    /// Publishes a message to a stream, after everything that was added before.
    pub(crate) fn send(&self, subject: String, message: PublishMessage) {
        self.send_as(&Uuid::now_v7().to_string(), subject, message);
    }

    fn send_as(&self, id: &str, subject: String, message: PublishMessage) {
        let message = message.message_id(id);
        if let Err(lost) = self.sender.try_send(Outgoing::Message(subject, message)) {
            error!(%lost, "the outbox is full because the bus was unreachable for too long; an event is lost");
        }
    }

    /// Waits until everything added so far is published, at most for `limit`.
    pub async fn drained(&self, limit: Duration) {
        let (mark, reached) = oneshot::channel();
        let published = async {
            if self.sender.send(Outgoing::Mark(mark)).await.is_ok() {
                let _ = reached.await;
            }
        };
        if timeout(limit, published).await.is_err() {
            warn!("the last events were not published in time and are lost");
        }
    }
}

async fn publish_all(bus: Bus, mut receiver: mpsc::Receiver<Outgoing>) {
    while let Some(outgoing) = receiver.recv().await {
        match outgoing {
            Outgoing::Message(subject, message) => publish_until_stored(&bus, &subject, &message).await,
            Outgoing::Mark(reached) => {
                let _ = reached.send(());
            }
        }
    }
}

async fn publish_until_stored(bus: &Bus, subject: &str, message: &PublishMessage) {
    let mut pause = FIRST_PAUSE;
    while let Err(cause) = bus.store(subject.to_owned(), message.clone()).await {
        if cause.kind() == PublishErrorKind::MaxPayloadExceeded {
            return error!(%cause, subject, "an event is too large to be stored and is lost");
        }
        warn!(%cause, subject, "an event could not be published; retrying");
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
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
        let recovery = Recovery::new(bus);
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
    let failed = |cause: String| BusError::new("read events", cause);
    let stream = bus.jetstream().get_stream_no_info(bus.namespace().resource("events")).await;
    let stream = stream.map_err(|error| failed(error.to_string()))?;
    let last = match stream.get_last_raw_message_by_subject(filter).await {
        Ok(last) if SystemTime::from(last.time) >= since => last,
        Ok(_) => return Ok(Vec::new()),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error.to_string())),
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
