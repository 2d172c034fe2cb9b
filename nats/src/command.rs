//! Commands to a hive: a durable work queue, one consumer for each hive.

use std::time::Duration;

use async_nats::jetstream::{
    AckKind,
    consumer::{AckPolicy, PullConsumer, pull},
    message::PublishMessage,
};
use futures::StreamExt as _;
use rbee_schema::{Failure, FailureCode, HiveCommand, HiveName};
use uuid::Uuid;

use crate::{Bus, BusError, Subject, bus::json, recovery::Recovery};

/// A command that nobody took for this long is stale: the queen has long planned anew.
const TIME_TO_LIVE: Duration = Duration::from_secs(60);

/// How long one pull waits at the server before it is renewed.
const PULL: Duration = Duration::from_secs(30);

impl Bus {
    /// Commands a hive to do something. Accepted means stored; the outcome is told by events.
    ///
    /// # Errors
    /// When the server does not store it.
    pub async fn command(&self, hive: &HiveName, command: &HiveCommand) -> Result<(), BusError> {
        let subject = self.subject(&Subject::HiveCommand(hive.clone()));
        let message =
            PublishMessage::build().payload(json(command)).message_id(Uuid::now_v7().to_string()).ttl(TIME_TO_LIVE);
        let stored = self.store(subject, message).await;
        stored.map(drop).map_err(|error| BusError::new(format!("command hive {hive}"), error))
    }
}

/// The commands to one hive.
#[derive(Debug)]
pub struct Commands {
    bus: Bus,
    consumer: PullConsumer,
}

impl Commands {
    /// The commands to `hive`, also those that came while it was away.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn of(bus: &Bus, hive: &HiveName) -> Result<Self, BusError> {
        let name = format!("hive-{hive}");
        let config = pull::Config {
            durable_name: Some(name.clone()),
            filter_subject: bus.subject(&Subject::HiveCommand(hive.clone())),
            ack_policy: AckPolicy::Explicit,
            ack_wait: Duration::from_secs(10),
            ..pull::Config::default()
        };
        let stream = bus.namespace().resource("commands");
        let consumer = bus.jetstream().create_consumer_on_stream(config, stream).await;
        consumer
            .map(|consumer| Self { bus: bus.clone(), consumer })
            .map_err(|error| BusError::new(format!("listen for commands as {name}"), error))
    }

    /// The next command, or why what came is none; `None` when none came for half a minute, or the connection was lost
    /// meanwhile: a pull may not survive that. A command is taken off the queue: a hive that dies right after it has
    /// lost the command, and the queen sees that from what does not happen.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn next(&mut self) -> Result<Option<Result<HiveCommand, Failure>>, BusError> {
        let failed = |cause: String| BusError::new("receive commands", cause);
        let mut connection = Recovery::of(&self.bus);
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
        };
        let Some(message) = message else { return Ok(None) };
        let message = message.map_err(|error| failed(error.to_string()))?;
        let command = serde_json::from_slice(&message.payload).map_err(|error| {
            Failure::new(
                FailureCode::InvalidRequest,
                format!("what came on {} is no command: {error}", message.subject),
            )
        });
        message.ack_with(AckKind::Ack).await.map_err(|error| failed(error.to_string()))?;
        Ok(Some(command))
    }
}
