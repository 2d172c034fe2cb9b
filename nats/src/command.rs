//! Commands to hives: a durable work queue with one consumer for each hive.

use std::time::Duration;

use async_nats::jetstream::{
    AckKind,
    consumer::{AckPolicy, PullConsumer, pull},
    message::PublishMessage,
};
use futures::StreamExt as _;
use rbee_schema::{Failure, FailureCode, HiveCommand, HiveName};
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;
use uuid::Uuid;

use crate::{
    Bus, BusError, Subject,
    bus::{header, json},
    recovery::Recovery,
    trace::{TraceContext, trace, with_trace},
};

/// Time that one pull waits at the server before it is renewed. If the cluster member that held a pull is gone, its successor
/// may not know of the pull; commands then wait for the next one, at most this long.
const PULL: Duration = Duration::from_secs(5);

/// Tolerance for the end of a pull: the server ends it after `PULL`, and its message needs time to arrive.
const LATE: Duration = Duration::from_secs(1);

/// Redelivery timeout of a command. A hive acknowledges a command as soon as it has read it, so only a hive that died in
/// between reaches it.
const ACK_WAIT: Duration = Duration::from_secs(10);

/// Time after which the server removes the consumer of a hive that is gone. No command is older than an hour by default.
const UNUSED: Duration = Duration::from_secs(60 * 60);

/// The request timeout is divided by this number. Each attempt to store a command takes one part, and attempts end after three
/// of four parts, so that a client of the queen gets the outcome before its own request times out.
const PARTS: u32 = 4;

/// Pause between two attempts to store a command. Shorter than a leader election, so that the command is stored soon after it.
const PAUSE: Duration = Duration::from_millis(200);

/// Header that holds the term of the queen that issued the command.
const TERM: &str = "Rbee-Term";

/// Issuer of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandIssuer {
    /// A person. Hives always follow the command.
    Person,
    /// The leading queen of this term. A hive follows the command unless it knows of a later term.
    Leader(u64),
}

/// Command with its issuer.
#[derive(Debug, Clone, PartialEq)]
pub struct IssuedCommand {
    /// The command.
    pub command: HiveCommand,
    /// Issuer of the command.
    pub issuer: CommandIssuer,
    /// Trace of the request or job that the command serves.
    pub trace: Option<TraceContext>,
}

impl Bus {
    /// Issues a command for a person. When this returns, the command is stored; events report its outcome.
    ///
    /// # Errors
    /// Those of [`Bus::issue`].
    pub async fn command(&self, hive: &HiveName, command: &HiveCommand) -> Result<(), BusError> {
        self.issue(hive, &IssuedCommand { command: command.clone(), issuer: CommandIssuer::Person, trace: None }).await
    }

    /// Issues a command. If the confirmation is lost, the command is published again with the same id, so that the server stores
    /// it once.
    ///
    /// # Errors
    /// The server refuses the command, or does not confirm it within the request timeout. Then it may be stored or not.
    pub async fn issue(&self, hive: &HiveName, issued: &IssuedCommand) -> Result<(), BusError> {
        let IssuedCommand { command, issuer, trace } = issued;
        let subject = self.subject(&Subject::HiveCommand(hive.clone()));
        let message = PublishMessage::build().payload(json(command)).message_id(Uuid::now_v7().to_string());
        let message = message.ttl(self.settings().command);
        let message = match issuer {
            CommandIssuer::Person => message,
            CommandIssuer::Leader(term) => message.header(TERM, term.to_string().as_str()),
        };
        let message = match trace {
            Some(trace) => with_trace(trace, message),
            None => message,
        };
        let request = self.settings().request;
        let limit = Instant::now() + request / PARTS * (PARTS - 1);
        let failed = |cause: String| BusError::new(format!("command hive {hive}"), cause);
        loop {
            let error = match timeout(request / PARTS, self.store(subject.clone(), message.clone())).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => failed(error.to_string()),
                Err(_) => failed("timed out: the server did not confirm that the command is stored".to_owned()),
            };
            if !error.is_transient() || Instant::now() + PAUSE >= limit {
                return Err(error);
            }
            debug!(%error, "storing the command failed; retrying");
            sleep(PAUSE).await;
        }
    }
}

/// Queue of the commands to one hive.
#[derive(Debug)]
pub struct CommandQueue {
    bus: Bus,
    hive: HiveName,
    consumer: PullConsumer,
}

impl CommandQueue {
    /// Opens the queue of `hive`. Commands that were issued while the hive was away are in it too.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn open(bus: &Bus, hive: &HiveName) -> Result<Self, BusError> {
        Ok(Self { bus: bus.clone(), hive: hive.clone(), consumer: consumer(bus, hive).await? })
    }

    /// Next command, or the failure to parse a message. `None` if there was none for a few seconds, or if the connection was
    /// lost, which a pull may not survive. The command is removed from the queue: a hive that dies right afterwards has lost
    /// it, and the queen issues it again when no event reports its outcome.
    ///
    /// # Errors
    /// The server does not answer, or the consumer was deleted. The next call finds it again.
    pub async fn next(&mut self) -> Result<Option<Result<IssuedCommand, Failure>>, BusError> {
        let received = self.receive().await;
        if received.is_err() {
            // Its error would say the same.
            if let Ok(consumer) = consumer(&self.bus, &self.hive).await {
                self.consumer = consumer;
            }
        }
        received
    }

    async fn receive(&self) -> Result<Option<Result<IssuedCommand, Failure>>, BusError> {
        let failed = |cause: String| BusError::new("receive commands", cause);
        let mut connection = Recovery::new(&self.bus);
        let mut batch = self
            .consumer
            .batch()
            .max_messages(1)
            .expires(PULL)
            .messages()
            .await
            .map_err(|error| failed(error.to_string()))?;
        let message = tokio::select! {
            biased;
            message = batch.next() => message,
            () = connection.interrupted() => None,
            () = sleep(PULL + LATE) => None,
        };
        let Some(message) = message else { return Ok(None) };
        let message = message.map_err(|error| failed(error.to_string()))?;
        let issued = read(&message);
        message.ack_with(AckKind::Ack).await.map_err(|error| failed(error.to_string()))?;
        Ok(Some(issued))
    }
}

/// Makes the consumer of a hive, or finds it.
async fn consumer(bus: &Bus, hive: &HiveName) -> Result<PullConsumer, BusError> {
    let name = format!("hive-{hive}");
    let config = pull::Config {
        durable_name: Some(name.clone()),
        filter_subject: bus.subject(&Subject::HiveCommand(hive.clone())),
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        inactive_threshold: UNUSED,
        ..pull::Config::default()
    };
    let stream = bus.namespace().resource("commands");
    let consumer = bus.jetstream().create_consumer_on_stream(config, stream).await;
    consumer.map_err(|error| BusError::new(format!("create consumer {name} of commands"), error))
}

fn read(message: &async_nats::Message) -> Result<IssuedCommand, Failure> {
    let wrong = |why: String| {
        let message = format!("the message on {} is not a command: {why}", message.subject);
        Failure::new(FailureCode::InvalidRequest, message)
    };
    let command = serde_json::from_slice(&message.payload).map_err(|error| wrong(error.to_string()))?;
    let issuer = match header(message.headers.as_ref(), TERM) {
        None => CommandIssuer::Person,
        Some(term) => {
            CommandIssuer::Leader(term.parse().map_err(|_| wrong(format!("{TERM} is `{term}`: expected a number")))?)
        }
    };
    Ok(IssuedCommand { command, issuer, trace: trace(message.headers.as_ref()) })
}
