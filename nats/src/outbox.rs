//! The outbox of a process: events and registry entries, published in order until they are stored.
//!
//! While the connection is lost, messages wait in order. A stream that refuses a message over a connection that stands holds up
//! only the messages for that stream: they wait in a lane of their own, and the others are published meanwhile.

use std::{
    collections::HashMap,
    error::Error as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_nats::jetstream::{
    self, ErrorCode,
    context::{PublishError, PublishErrorKind},
    message::PublishMessage,
};
use rbee_schema::Event;
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tracing::{debug, error, info, warn};
use uuid::Uuid;

use crate::Bus;

/// First pause before a failed publish is repeated. Most failures are a short interruption of the connection.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// Longest pause before a failed publish is repeated. Pauses double up to it, so that events are stored within a second of
/// the server's return.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Lane of everything that is no registry entry.
const EVENTS: &str = "events";

/// Errors of the server that are about one message: no repetition helps.
const UNSTORABLE: [ErrorCode; 3] =
    [ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM, ErrorCode::MESSAGE_TTL_INVALID, ErrorCode::MESSAGE_TTL_DISABLED];

/// Outbox: publishes events and registry entries in the order in which they are added, each until the server has stored it.
///
/// Every message has an id, so that a repeated publish is stored once.
#[derive(Debug, Clone)]
pub struct Outbox {
    bus: Bus,
    sender: mpsc::Sender<Outgoing>,
}

#[derive(Debug, Clone)]
enum Outgoing {
    Message(Letter),
    /// Dropped, with all its clones, once everything before it is published.
    Mark(#[expect(dead_code, reason = "dropping it notifies the waiter")] Arc<oneshot::Sender<()>>),
}

/// Message with its subject.
#[derive(Debug, Clone)]
struct Letter {
    subject: String,
    message: PublishMessage,
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
        let letter = Letter { subject, message: message.message_id(id) };
        if let Err(lost) = self.sender.try_send(Outgoing::Message(letter)) {
            self.bus.storage().lost();
            error!(%lost, "the outbox is full because the bus was unreachable for too long; an event is lost");
        }
    }

    /// Waits until everything added so far is published, at most for `limit`.
    pub async fn drained(&self, limit: Duration) {
        let (mark, reached) = oneshot::channel();
        let published = async {
            if self.sender.send(Outgoing::Mark(Arc::new(mark))).await.is_ok() {
                let _ = reached.await;
            }
        };
        if timeout(limit, published).await.is_err() {
            warn!("the last events were not published in time and are lost");
        }
    }
}

/// Publishes directly what can be stored, and hands the rest to the lane of its stream.
async fn publish_all(bus: Bus, mut receiver: mpsc::Receiver<Outgoing>) {
    let mut lanes: HashMap<String, Lane> = HashMap::new();
    while let Some(outgoing) = receiver.recv().await {
        match outgoing {
            Outgoing::Message(letter) => {
                let name = letter.lane();
                match lanes.get(name).filter(|lane| lane.is_busy()) {
                    Some(lane) => lane.send(Outgoing::Message(letter)),
                    None => {
                        lanes.remove(name);
                        if let Some(cause) = publish_while_away(&bus, &letter).await {
                            lanes.insert(name.to_owned(), Lane::start(&bus, letter.clone(), &cause));
                        }
                    }
                }
            }
            mark @ Outgoing::Mark(_) => lanes.values().for_each(|lane| lane.send(mark.clone())),
        }
    }
}

/// Publishes a message, however often the connection is lost meanwhile. Returns the refusal of a server that is connected.
async fn publish_while_away(bus: &Bus, letter: &Letter) -> Option<PublishError> {
    let mut pause = FIRST_PAUSE;
    loop {
        match letter.publish(bus).await {
            Published::Done => return None,
            Published::Refused(cause) if is_connected(bus, &cause) => return Some(cause),
            Published::Refused(cause) => debug!(%cause, letter.subject, "an event waits for the connection"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// True if a publish failed although the connection stood.
fn is_connected(bus: &Bus, cause: &PublishError) -> bool {
    cause.kind() != PublishErrorKind::BrokenPipe && *bus.online().borrow()
}

/// Messages for one stream that refuses them at present.
#[derive(Debug)]
struct Lane {
    bus: Bus,
    sender: mpsc::Sender<Outgoing>,
    /// Number of messages that are not stored yet.
    pending: Arc<AtomicUsize>,
}

impl Lane {
    /// Starts a lane with the message that was refused.
    fn start(bus: &Bus, first: Letter, cause: &PublishError) -> Self {
        let (sender, receiver) = mpsc::channel(bus.settings().outbox as usize);
        let lane = Self { bus: bus.clone(), sender, pending: Arc::default() };
        warn!(%cause, subject = first.subject, "a stream does not store what is published; it waits, and other streams do not");
        bus.storage().refused(first.lane(), &cause.to_string());
        let name = first.lane().to_owned();
        lane.send(Outgoing::Message(first));
        tokio::spawn(publish_lane(bus.clone(), name, receiver, lane.pending.clone()));
        lane
    }

    fn is_busy(&self) -> bool {
        self.pending.load(Ordering::Acquire) > 0
    }

    fn send(&self, outgoing: Outgoing) {
        let is_message = matches!(outgoing, Outgoing::Message(_));
        let count = usize::from(is_message);
        self.pending.fetch_add(count, Ordering::AcqRel);
        if let Err(lost) = self.sender.try_send(outgoing) {
            self.pending.fetch_sub(count, Ordering::AcqRel);
            if is_message {
                self.bus.storage().lost();
                error!(%lost, "a stream has stored nothing for too long; an event is lost");
            }
        }
    }
}

async fn publish_lane(bus: Bus, name: String, mut receiver: mpsc::Receiver<Outgoing>, pending: Arc<AtomicUsize>) {
    while let Some(outgoing) = receiver.recv().await {
        let Outgoing::Message(letter) = outgoing else { continue };
        let mut pause = FIRST_PAUSE;
        while let Published::Refused(cause) = letter.publish(&bus).await {
            debug!(%cause, letter.subject, "an event could not be published; retrying");
            if is_connected(&bus, &cause) {
                bus.storage().refused(&name, &cause.to_string());
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        if pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            info!(stream = name, "a stream has stored everything that waited for it");
            bus.storage().stored(&name);
        }
    }
}

/// Outcome of one attempt to publish a message.
enum Published {
    /// The message is stored, or was dropped because it never can be.
    Done,
    /// The message may be stored later.
    Refused(PublishError),
}

impl Letter {
    /// Stream or bucket that stores the message.
    fn lane(&self) -> &str {
        self.subject.strip_prefix("$KV.").and_then(|rest| rest.split('.').next()).unwrap_or(EVENTS)
    }

    async fn publish(&self, bus: &Bus) -> Published {
        match bus.store(self.subject.clone(), self.message.clone()).await {
            Ok(_) => Published::Done,
            Err(cause) if is_unstorable(&cause) => {
                bus.storage().lost();
                error!(%cause, self.subject, "an event can never be stored and is lost");
                Published::Done
            }
            Err(cause) => Published::Refused(cause),
        }
    }
}

/// True if a message was refused for what it is, so that it would be refused again.
fn is_unstorable(cause: &PublishError) -> bool {
    let error = cause.source().and_then(|source| source.downcast_ref::<jetstream::Error>());
    cause.kind() == PublishErrorKind::MaxPayloadExceeded
        || error.is_some_and(|error| UNSTORABLE.contains(&error.error_code()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bucket_has_a_lane_and_events_have_one() {
        for (subject, expected) in [
            ("$KV.rbee_workers.h.w", "rbee_workers"),
            ("$KV.rbee_hives.h", "rbee_hives"),
            ("rbee.evt.hive.h.joined", EVENTS),
        ] {
            let letter = Letter { subject: subject.to_owned(), message: PublishMessage::build() };
            assert_eq!(letter.lane(), expected, "{subject}");
        }
    }
}
