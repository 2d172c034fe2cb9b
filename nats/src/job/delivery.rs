//! One delivery of a job to a worker: an attempt.

use std::time::{Duration, SystemTime};

use async_nats::jetstream::{self, AckKind};
use bytes::Bytes;
use rbee_schema::{Deadlines, Failure, JobClass, JobFlow, JobId, JobInFlight, Tenant};

use super::{Misnamed, StoredBody, consumer::Consumer, deadline::deadlines, id::JobNames};
use crate::{
    Bus, BusError, Subject,
    trace::{TraceContext, trace},
};

/// Job that was delivered to this worker and is not acknowledged yet.
#[derive(Debug)]
pub struct Delivery {
    message: jetstream::Message,
    /// Class of the job.
    pub class: JobClass,
    /// Tenant that owns the job.
    pub tenant: Tenant,
    /// Id of the job.
    pub job: JobId,
    /// Sequence in the stream `jobs`.
    pub sequence: u64,
    /// Set if the message is no valid job.
    pub misnamed: Option<Misnamed>,
    /// Time at which the server stored the job.
    pub stored: SystemTime,
    /// Number of further jobs of this flow that waited when this one was sent.
    pub waiting: u64,
    /// Attempt: number of this delivery of the job, from 1. It begins again when the consumer is made again.
    pub attempt: u64,
    /// True if no worker had the job before, as far as the server knows: the consumer is older than the job and counts this
    /// delivery as the first.
    pub is_first: bool,
    /// Trace of the job: the client's, or the job's own.
    pub trace: TraceContext,
    /// Redelivery timeout. The worker sends several keep-alives within it; without one the job goes to another worker.
    pub redelivery: Duration,
}

impl Delivery {
    pub(super) fn read(bus: &Bus, message: &jetstream::Message, consumer: Consumer) -> Option<Self> {
        let info = message.info().ok()?;
        let sequence = info.stream_sequence;
        let Some(Subject::Job(_, class, _)) = bus.parse(&message.subject) else { return None };
        let JobNames { tenant, job, misnamed, .. } = bus.names(&message.subject, message.headers.as_ref(), sequence);
        let trace = trace(message.headers.as_ref()).unwrap_or_else(|| bus.trace_of(&tenant, &job));
        let (stored, attempt) = (info.published.into(), u64::try_from(info.delivered).unwrap_or(1));
        Some(Self {
            message: message.clone(),
            class,
            tenant,
            job,
            sequence,
            misnamed,
            stored,
            waiting: info.pending,
            attempt,
            is_first: attempt == 1 && consumer.created < stored,
            trace,
            redelivery: consumer.redelivery,
        })
    }

    /// Flow that the job belongs to.
    pub fn flow(&self) -> JobFlow {
        JobFlow { class: self.class, tenant: self.tenant.clone() }
    }

    /// Deadlines that the job states.
    ///
    /// # Errors
    /// A header is invalid. The failure refuses the job.
    pub fn deadlines(&self) -> Result<Deadlines, Failure> {
        deadlines(self.message.headers.as_ref())
    }

    /// Request as it was published. Empty if it is [stored apart](Self::stored_body) from the job.
    pub fn body(&self) -> &Bytes {
        &self.message.payload
    }

    /// Place of the request, if it is stored apart from the job.
    ///
    /// # Errors
    /// The job names a body that it may not have.
    pub fn stored_body(&self) -> Result<Option<StoredBody>, Failure> {
        StoredBody::read(self.message.headers.as_ref(), &self.tenant, &self.message.payload)
    }

    /// Entry of this job in the worker's heartbeat.
    pub fn in_flight(&self) -> JobInFlight {
        let ack = self.message.reply.as_ref().map(ToString::to_string).unwrap_or_default();
        let redelivery_ms = u64::try_from(self.redelivery.as_millis()).ok();
        JobInFlight { tenant: self.tenant.clone(), job: self.job.clone(), ack, waits: false, redelivery_ms }
    }

    /// Sends a keep-alive, which restarts the redelivery timeout.
    ///
    /// # Errors
    /// The connection is closed.
    pub async fn keep_alive(&self) -> Result<(), BusError> {
        self.acknowledge(AckKind::Progress).await
    }

    /// Naks the delivery: returns the job to the queue, for any worker.
    ///
    /// # Errors
    /// The connection is closed.
    pub async fn nak(&self) -> Result<(), BusError> {
        self.acknowledge(AckKind::Nak(None)).await
    }

    /// Naks the delivery: returns the job to the queue, where it waits for `pause` before it is delivered again.
    ///
    /// # Errors
    /// The connection is closed.
    pub async fn nak_for(&self, pause: Duration) -> Result<(), BusError> {
        self.acknowledge(AckKind::Nak(Some(pause))).await
    }

    async fn acknowledge(&self, kind: AckKind) -> Result<(), BusError> {
        let sent = self.message.ack_with(kind).await;
        sent.map_err(|error| BusError::new(format!("acknowledge job {}", self.job), error))
    }

    /// Acknowledges the job, which removes it from the queue. Only after its last chunk is stored.
    ///
    /// # Errors
    /// The server does not confirm. The job is delivered again, and its output shows that it is answered.
    pub async fn ack(&self) -> Result<(), BusError> {
        let confirmed = self.message.double_ack().await;
        confirmed.map_err(|error| BusError::new(format!("acknowledge job {}", self.job), error))
    }
}
