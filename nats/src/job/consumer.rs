//! The consumers of the queue: a durable one for each flow of a model, made by the worker that first needs it.
//!
//! The server removes a consumer after [`UNUSED`] without a pull, a keep-alive or an acknowledgement, so those of withdrawn
//! models and of tenants that went away do not stay. The jobs stay in the stream, and the next worker makes the consumer
//! again.

use std::time::{Duration, SystemTime};

use async_nats::jetstream::{
    self, ErrorCode,
    consumer::{AckPolicy, PriorityPolicy, PullConsumer, pull},
    stream::{ConsumerCreateStrictErrorKind, Stream},
};
use rbee_schema::{JobClass, JobFlow, ModelName};

use crate::{Bus, BusError, Subject, Topology, topology::redelivery};

/// Maximum number of waiting pulls of a consumer: one for each worker of a model, and one for each free slot while jobs wait.
/// The default of the server is 512, and further pulls would fail.
const MAX_WAITING: i64 = 65_536;

/// Maximum number of unacknowledged deliveries of a consumer: one for each running job of a flow. The limit of running jobs of
/// a tenant is lower, and the server enforces it over all workers of the model. A job of a worker that died counts until it is
/// delivered again.
const MAX_ACK_PENDING: i64 = 65_536;

/// Time after which the server removes an unused consumer. Idle workers pull, and running jobs are kept alive, more often than
/// that. Longer than a restart of a fleet takes, so that consumers survive it.
const UNUSED: Duration = Duration::from_secs(10 * 60);

/// Name of the one priority group of a consumer. Pulls must name it to have a priority.
pub(super) const PRIORITY_GROUP: &str = "slots";

/// Consumer of a flow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Consumer {
    /// Redelivery timeout.
    pub(super) redelivery: Duration,
    /// Time at which the server made it.
    pub(super) created: SystemTime,
}

/// Makes the consumer of a flow, or finds it. At most `max_running` jobs of the flow run at once.
///
/// The limit of an existing consumer is changed at once. A lowered one ends no running jobs.
///
/// The redelivery timeout of an existing consumer is raised to the limit of the stream but never lowered: the workers that run
/// send their keep-alives at the pace of the value that applied when they started.
///
/// # Errors
/// The server does not answer, or the stream `jobs` does not exist.
pub(super) async fn open_consumer(
    bus: &Bus,
    model: &ModelName,
    flow: &JobFlow,
    max_running: Option<u32>,
) -> Result<Consumer, BusError> {
    let stream = bus.jetstream().get_stream(bus.namespace().resource("jobs")).await;
    let stream = stream.map_err(|error| BusError::new("open the queue", error))?;
    let redelivery = redelivery(&stream.cached_info().config);
    let name = Topology::job_consumer(model, flow);
    let failed = |cause: String| BusError::new(format!("create consumer {name}"), cause);
    let config = pull::Config {
        durable_name: Some(name.clone()),
        filter_subject: bus.subject(&Subject::Job(model.clone(), flow.class, flow.tenant.clone())),
        ack_policy: AckPolicy::Explicit,
        ack_wait: redelivery,
        max_waiting: MAX_WAITING,
        max_ack_pending: max_running.map_or(MAX_ACK_PENDING, i64::from),
        inactive_threshold: UNUSED,
        priority_policy: PriorityPolicy::Prioritized,
        priority_groups: vec![PRIORITY_GROUP.to_owned()],
        ..pull::Config::default()
    };
    let mut created = create(bus, &stream, &config).await;
    if created.as_ref().is_err_and(is_not_unique) {
        remove_shared_consumers(&stream, model).await;
        created = create(bus, &stream, &config).await;
    }
    let consumer = |found: &PullConsumer| Consumer { redelivery, created: found.cached_info().created.into() };
    match created {
        Ok(created) => Ok(consumer(&created)),
        Err(error) if error.kind() == ConsumerCreateStrictErrorKind::AlreadyExists => {
            let found: PullConsumer = stream.get_consumer(&name).await.map_err(|error| failed(error.to_string()))?;
            let before = &found.cached_info().config;
            if before.ack_wait < redelivery || before.max_ack_pending != config.max_ack_pending {
                let config = pull::Config { ack_wait: before.ack_wait.max(redelivery), ..config };
                let changed =
                    bus.jetstream().update_consumer_on_stream(config, &stream.cached_info().config.name).await;
                changed.map_err(|error| failed(error.to_string()))?;
            }
            Ok(consumer(&found))
        }
        Err(error) => Err(failed(error.to_string())),
    }
}

type Created = Result<PullConsumer, jetstream::stream::ConsumerCreateStrictError>;

async fn create(bus: &Bus, stream: &Stream, config: &pull::Config) -> Created {
    bus.jetstream().create_consumer_strict_on_stream(config.clone(), &stream.cached_info().config.name).await
}

fn is_not_unique(error: &jetstream::stream::ConsumerCreateStrictError) -> bool {
    match error.kind() {
        ConsumerCreateStrictErrorKind::JetStream(error) => {
            error.error_code() == ErrorCode::CONSUMER_WQ_CONSUMER_NOT_UNIQUE
        }
        _ => false,
    }
}

/// Removes the consumers of earlier versions, which all tenants of a class shared. No two consumers of a work queue may
/// overlap. Jobs that were delivered by them are delivered again.
async fn remove_shared_consumers(stream: &Stream, model: &ModelName) {
    for class in JobClass::ALL {
        // Removing one that does not exist fails, which is as well.
        let _ = stream.delete_consumer(&format!("{model}-{class}")).await;
    }
}

impl Bus {
    /// True if the consumer exists from which workers pull the jobs of `flow`.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn has_consumer(&self, model: &ModelName, flow: &JobFlow) -> Result<bool, BusError> {
        let name = Topology::job_consumer(model, flow);
        let failed = |cause: String| BusError::new(format!("read consumer {name}"), cause);
        let subject = format!("CONSUMER.INFO.{}.{name}", self.namespace().resource("jobs"));
        let response: Result<jetstream::response::Response<jetstream::consumer::Info>, _> =
            self.jetstream().request(subject, &serde_json::json!({})).await;
        match response.map_err(|error| failed(error.to_string()))? {
            jetstream::response::Response::Ok(_) => Ok(true),
            jetstream::response::Response::Err { error } if is_missing(&error) => Ok(false),
            jetstream::response::Response::Err { error } => Err(failed(error.to_string())),
        }
    }
}

fn is_missing(error: &jetstream::Error) -> bool {
    matches!(error.error_code(), ErrorCode::CONSUMER_NOT_FOUND | ErrorCode::STREAM_NOT_FOUND)
}
