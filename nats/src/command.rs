//! Commands to a hive: a durable work queue, one consumer for each hive.

use std::time::Duration;

use crate::trace::TraceContext;
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
    trace::{trace, within},
};

/// How long one pull waits at the server before it is renewed. Where the member of a cluster that held it is gone, the one
/// that takes over says so if it knew of the pull; else commands wait for the next one.
const PULL: Duration = Duration::from_secs(5);

/// By how much the end of a pull may be late.
const LATE: Duration = Duration::from_secs(1);

/// A command that a hive took and did not acknowledge comes again after this long. It acknowledges at once.
const ACK_WAIT: Duration = Duration::from_secs(10);

/// The word that a command is stored is waited for during a part of the longest that one request may take, and asked for
/// again: three parts of four are for that, so that whoever asks a queen to command hears from her how it went.
const PARTS: u32 = 4;

/// Between two tries to have a command stored.
const PAUSE: Duration = Duration::from_millis(200);

/// The header that holds the term of the queen who commands.
const TERM: &str = "Rbee-Term";

/// Who commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandIssuer {
    /// A person: always obeyed.
    Person,
    /// The queen who leads in this term: obeyed until a hive knows of a later one.
    Leader(u64),
}

/// A command, and who gave it.
#[derive(Debug, Clone, PartialEq)]
pub struct IssuedCommand {
    /// What is to be done.
    pub command: HiveCommand,
    /// Who says so.
    pub issuer: CommandIssuer,
    /// The trace of what it is for.
    pub trace: Option<TraceContext>,
}

impl Bus {
    /// Commands a hive to do something, for a person. Accepted means stored; the outcome is told by events.
    ///
    /// # Errors
    /// As for [`Bus::issue`].
    pub async fn command(&self, hive: &HiveName, command: &HiveCommand) -> Result<(), BusError> {
        self.issue(hive, &IssuedCommand { command: command.clone(), issuer: CommandIssuer::Person, trace: None }).await
    }

    /// The same, for whoever commands. Where the word that it is stored is lost, it is given again under the same id, by
    /// which the server stores it once.
    ///
    /// # Errors
    /// When the server refuses it, or does not say within the longest that one request may take that it is stored: then it
    /// may be or not.
    pub async fn issue(&self, hive: &HiveName, order: &IssuedCommand) -> Result<(), BusError> {
        let IssuedCommand { command, issuer, trace } = order;
        let subject = self.subject(&Subject::HiveCommand(hive.clone()));
        let message = PublishMessage::build().payload(json(command)).message_id(Uuid::now_v7().to_string());
        let message = message.ttl(self.settings().command);
        let message = match issuer {
            CommandIssuer::Person => message,
            CommandIssuer::Leader(term) => message.header(TERM, term.to_string().as_str()),
        };
        let message = match trace {
            Some(trace) => within(trace, message),
            None => message,
        };
        let request = self.settings().request;
        let limit = Instant::now() + request / PARTS * (PARTS - 1);
        let failed = |cause: String| BusError::new(format!("command hive {hive}"), cause);
        loop {
            let error = match timeout(request / PARTS, self.store(subject.clone(), message.clone())).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => failed(error.to_string()),
                Err(_) => failed("timed out: the server does not say that it is stored".to_owned()),
            };
            if !error.is_transient() || Instant::now() + PAUSE >= limit {
                return Err(error);
            }
            debug!(%error, "trying again");
            sleep(PAUSE).await;
        }
    }
}

/// The commands to one hive.
#[derive(Debug)]
pub struct CommandQueue {
    bus: Bus,
    consumer: PullConsumer,
}

impl CommandQueue {
    /// The commands to `hive`, also those that came while it was away.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn open(bus: &Bus, hive: &HiveName) -> Result<Self, BusError> {
        let name = format!("hive-{hive}");
        let config = pull::Config {
            durable_name: Some(name.clone()),
            filter_subject: bus.subject(&Subject::HiveCommand(hive.clone())),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            ..pull::Config::default()
        };
        let stream = bus.namespace().resource("commands");
        let consumer = bus.jetstream().create_consumer_on_stream(config, stream).await;
        consumer
            .map(|consumer| Self { bus: bus.clone(), consumer })
            .map_err(|error| BusError::new(format!("listen for commands as {name}"), error))
    }

    /// The next command, or why what came is none; `None` when none came for a while, or the connection was lost meanwhile:
    /// a pull may not survive that. A command is taken off the queue: a hive that dies right after it has
    /// lost the command, and the queen sees that from what does not happen.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn next(&mut self) -> Result<Option<Result<IssuedCommand, Failure>>, BusError> {
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
        let order = read(&message);
        message.ack_with(AckKind::Ack).await.map_err(|error| failed(error.to_string()))?;
        Ok(Some(order))
    }
}

fn read(message: &async_nats::Message) -> Result<IssuedCommand, Failure> {
    let wrong = |why: String| {
        let message = format!("what came on {} is no command: {why}", message.subject);
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
