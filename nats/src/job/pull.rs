//! The queue of one model, from which workers pull jobs.

use std::time::Duration;

use async_nats::jetstream::{
    AckKind,
    consumer::{AckPolicy, PullConsumer, pull},
};
use futures::StreamExt as _;
use rbee_schema::{JobClass, ModelName};
use tokio::time::timeout;
use tracing::warn;

use super::Delivery;
use crate::{Bus, BusError, Topology, recovery::Recovery, topology::redelivery};

/// Maximum number of waiting pulls of a consumer: one for each free slot of a model's workers. The default of the server is
/// 512, and further pulls would fail.
const MAX_WAITING: i64 = 65_536;

/// Maximum number of unacknowledged deliveries of a consumer: one for each running job of a model.
const MAX_ACK_PENDING: i64 = 65_536;

/// Jobs of one model, for one slot of a worker.
#[derive(Debug, Clone)]
pub struct JobQueue {
    bus: Bus,
    interactive: PullConsumer,
    batch: PullConsumer,
    redelivery: Duration,
}

impl JobQueue {
    /// Opens the queue of `model`. Creates its consumers if they do not exist.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn open(bus: &Bus, model: &ModelName) -> Result<Self, BusError> {
        let stream = bus.jetstream().get_stream(bus.namespace().resource("jobs")).await;
        let stream = stream.map_err(|error| BusError::new("open the queue", error))?;
        let redelivery = redelivery(&stream.cached_info().config);
        let interactive = consumer(bus, model, JobClass::Interactive, redelivery).await?;
        let batch = consumer(bus, model, JobClass::Batch, redelivery).await?;
        Ok(Self { bus: bus.clone(), interactive, batch, redelivery })
    }

    /// Next job. `None` if there was none for `wait`, or if the connection was lost, which a pull may not survive. An
    /// interactive job is delivered at once, a batch job if no interactive job came for `wait`.
    ///
    /// One pull asks for one job, so that no worker holds a job that another could run. The future must run to completion: a
    /// job that is delivered to a dropped pull returns only after the redelivery timeout.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn next(&self, wait: Duration) -> Result<Option<Delivery>, BusError> {
        let failed = |cause: String| BusError::new("pull a job", cause);
        let mut connection = Recovery::new(&self.bus);
        let pull = self.interactive.batch().max_messages(1).expires(wait).messages().await;
        let mut pull = pull.map_err(|error| failed(error.to_string()))?;
        let mut message = tokio::select! {
            biased;
            message = pull.next() => message,
            () = connection.interrupted() => return Ok(None),
        };
        if message.is_none() {
            // A fetch does not wait at the server. With an expiry the server would hold it, and the worker would miss
            // interactive jobs meanwhile.
            let fetch = self.batch.fetch().max_messages(1).messages().await;
            let mut fetch = fetch.map_err(|error| failed(error.to_string()))?;
            message = timeout(wait, fetch.next()).await.ok().flatten();
        }
        let Some(message) = message else { return Ok(None) };
        let message = message.map_err(|error| failed(error.to_string()))?;
        match Delivery::read(&self.bus, &message, self.redelivery) {
            Some(delivery) => Ok(Some(delivery)),
            None => {
                warn!(subject = %message.subject, "a delivered message has no acknowledgement subject; it is dropped");
                message.ack_with(AckKind::Term).await.map_err(|error| failed(error.to_string()))?;
                Ok(None)
            }
        }
    }
}

async fn consumer(
    bus: &Bus,
    model: &ModelName,
    class: JobClass,
    redelivery: Duration,
) -> Result<PullConsumer, BusError> {
    let name = Topology::job_consumer(model, class);
    let config = pull::Config {
        durable_name: Some(name.clone()),
        filter_subject: bus.namespace().jobs_of(model, class),
        ack_policy: AckPolicy::Explicit,
        ack_wait: redelivery,
        max_waiting: MAX_WAITING,
        max_ack_pending: MAX_ACK_PENDING,
        ..pull::Config::default()
    };
    let stream = bus.namespace().resource("jobs");
    let consumer = bus.jetstream().create_consumer_on_stream(config, stream).await;
    consumer.map_err(|error| BusError::new(format!("create consumer {name}"), error))
}
