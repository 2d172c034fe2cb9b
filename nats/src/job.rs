//! Jobs: submitted to a durable queue, pulled by workers one at a time, taken off the queue when they are answered.
//! Steps 1, 4 and 6 of a job's path.

use std::time::Duration;

use crate::trace::TraceContext;
use async_nats::jetstream::{
    self, AckKind,
    consumer::{AckPolicy, PullConsumer, pull},
    context::PublishErrorKind,
    message::PublishMessage,
    stream::LastRawMessageErrorKind,
};
use bytes::Bytes;
use futures::StreamExt as _;
use rbee_schema::{
    DeadJob, Event, Failure, FailureCode, HiveName, JobClass, JobEvent, JobId, JobInFlight, MAX_BODY_BYTES, ModelName,
    Tenant, WorkerName,
};
use tokio::time::timeout;
use tracing::{Instrument as _, field::Empty, info_span, warn};

use crate::{
    Bus, BusError, Outbox, Subject, Topology,
    bus::{header as text, json},
    recovery::Recovery,
    topology::redelivery,
    trace::{trace, trace_of_job, within},
};

/// Pulls that may wait at one consumer: one for each free slot of a model's workers. The server's own limit is 512.
const MAX_WAITING: i64 = 65_536;

/// Deliveries of one model that may be under way.
const MAX_ACK_PENDING: i64 = 65_536;

/// A job to be queued.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Which model answers it.
    pub model: ModelName,
    /// How urgent it is.
    pub class: JobClass,
    /// Whose it is.
    pub tenant: Tenant,
    /// Its id, by which a repeated submission is known.
    pub job: JobId,
    /// The request, as JSON; the worker checks it.
    pub body: Bytes,
}

/// A job that waits or runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedJob {
    /// Its place in the queue.
    pub sequence: u64,
    /// Whose it is.
    pub tenant: Tenant,
    /// Which it is.
    pub job: JobId,
    /// The trace that it belongs to.
    pub trace: TraceContext,
}

impl Bus {
    /// Queues a job. When this returns, the job is stored.
    ///
    /// # Errors
    /// `body-too-large`, `queue-full`, or `timed-out` when the server does not answer: then the job may be stored or
    /// not, and submitting it again under the same id is safe.
    pub async fn submit(&self, submission: Submission) -> Result<(), Failure> {
        self.submit_in(submission, None).await
    }

    /// The same, in the trace of whoever asked for it; without one the job begins its own.
    ///
    /// # Errors
    /// Those of [`Bus::submit`].
    pub async fn submit_in(&self, submission: Submission, asked: Option<TraceContext>) -> Result<(), Failure> {
        let Submission { model, job, tenant, .. } = &submission;
        let span = info_span!(parent: None, "submit", %model, %job, %tenant, trace = Empty);
        let trace = match asked {
            Some(asked) => crate::trace::continue_trace(&span, &asked),
            None => crate::trace::start_trace(&span, &self.trace_of(tenant, job)),
        };
        span.record("trace", trace.id());
        self.queue(submission, trace).instrument(span).await
    }

    async fn queue(&self, submission: Submission, trace: TraceContext) -> Result<(), Failure> {
        let Submission { model, class, tenant, job, body } = submission;
        if body.len() > MAX_BODY_BYTES {
            let found = body.len();
            return Err(Failure::new(
                FailureCode::BodyTooLarge,
                format!("the body has {found} bytes; a job may have {MAX_BODY_BYTES}: send a shorter chat"),
            ));
        }
        let subject = self.subject(&Subject::Job(model.clone(), class, tenant.clone()));
        let message = PublishMessage::build().payload(body).message_id(job.as_str());
        self.store(subject, within(&trace, message)).await.map(drop).map_err(|error| {
            let cause = error.to_string();
            if cause.contains("maximum messages per subject") || cause.contains("maximum bytes") {
                Failure::new(
                    FailureCode::QueueFull,
                    format!("too many {class} jobs of tenant {tenant} wait for model {model}: submit it again later"),
                )
            } else if error.kind() == PublishErrorKind::MaxPayloadExceeded {
                Failure::new(FailureCode::BodyTooLarge, cause)
            } else {
                Failure::new(FailureCode::TimedOut, format!("the job was not accepted: {cause}"))
            }
        })
    }

    /// The trace of a job that came without one: the same for whoever asks.
    pub fn trace_of(&self, tenant: &Tenant, job: &JobId) -> TraceContext {
        trace_of_job(self.namespace(), tenant, job)
    }

    /// Asks for a job to end. Whoever runs it, or the queen where nobody does, answers it with an `error` chunk.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn cancel(&self, tenant: &Tenant, job: &JobId) -> Result<(), BusError> {
        let subject = self.subject(&Subject::Cancel(tenant.clone(), job.clone()));
        let published = self.client().publish(subject, Bytes::new()).await;
        published.map_err(|error| BusError::new(format!("cancel job {job}"), error))?;
        self.flush().await
    }

    /// Gives a job back to the queue for somebody who holds it and is gone. Once for each delivery: a second time it
    /// would end the next worker's hold. Nobody confirms it; where it is lost, the job comes back when its
    /// time is over.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn nak(&self, job: &JobInFlight) -> Result<(), BusError> {
        let given = self.client().publish(job.ack.clone(), "-NAK".into()).await;
        given.map_err(|error| BusError::new(format!("give back job {}", job.job), error))
    }

    /// Gives the jobs of a worker that is gone back, and tells of each.
    pub async fn return_to_queue(&self, outbox: &Outbox, hive: &HiveName, worker: &WorkerName, jobs: Vec<JobInFlight>) {
        for job in jobs {
            if let Err(error) = self.nak(&job).await {
                warn!(job = %job.job, %error, "a job comes back only when its time is over");
            }
            let returned = JobEvent::Returned { hive: hive.clone(), worker: worker.clone() };
            outbox.publish(&Event::Job(job.tenant, job.job, returned));
        }
    }

    /// Keeps a job that was given up, for a person to look at.
    ///
    /// # Errors
    /// When the server does not store it.
    pub async fn store_dead_job(&self, model: &ModelName, dead: &DeadJob) -> Result<(), BusError> {
        let subject = self.subject(&Subject::Dead(model.clone()));
        let message = PublishMessage::build().payload(json(dead)).message_id(format!("{}-{}", dead.tenant, dead.job));
        let stored = self.store(subject, message).await;
        stored.map(drop).map_err(|error| BusError::new(format!("keep dead job {}", dead.job), error))
    }

    /// How many jobs wait or run, by model.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn queue_depths(&self) -> Result<Vec<(ModelName, u64)>, BusError> {
        let failed = |cause: String| BusError::new("look at the queue", cause);
        let stream = self.jobs().await?;
        let mut subjects =
            stream.info_with_subjects(self.namespace().all_jobs()).await.map_err(|error| failed(error.to_string()))?;
        let mut depths = std::collections::BTreeMap::new();
        while let Some(subject) = subjects.next().await {
            let (subject, count) = subject.map_err(|error| failed(error.to_string()))?;
            if let Some(Subject::Job(model, ..)) = self.parse(&subject) {
                *depths.entry(model).or_insert(0) += count as u64;
            }
        }
        Ok(depths.into_iter().collect())
    }

    /// The queued or running jobs of `model`, oldest first.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn queued_jobs(&self, model: &ModelName) -> Result<Vec<QueuedJob>, BusError> {
        let stream = self.jobs().await?;
        let mut jobs = Vec::new();
        let mut from = 1;
        loop {
            let next =
                stream.raw_message_builder().sequence(from).next_by_subject(self.namespace().jobs_of_model(model));
            let message = match next.send().await {
                Ok(message) => message,
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => return Ok(jobs),
                Err(error) => return Err(BusError::new("look at the queue", error)),
            };
            from = message.sequence + 1;
            if let Some(Subject::Job(_, _, tenant)) = self.parse(&message.subject) {
                let sequence = message.sequence;
                let job = job_id(text(Some(&message.headers), "Nats-Msg-Id"), sequence);
                let told = trace(Some(&message.headers));
                let trace = told.unwrap_or_else(|| self.trace_of(&tenant, &job));
                jobs.push(QueuedJob { sequence, tenant, job, trace });
            }
        }
    }

    /// Takes a job off the queue that nobody runs.
    ///
    /// # Errors
    /// When the server does not answer. A job that is gone already is none.
    pub async fn drop_job(&self, sequence: u64) -> Result<(), BusError> {
        let stream = self.jobs().await?;
        match stream.delete_message(sequence).await {
            Ok(_) => Ok(()),
            Err(error) if error.to_string().contains("no message found") => Ok(()),
            Err(error) => Err(BusError::new(format!("take job {sequence} off the queue"), error)),
        }
    }

    async fn jobs(&self) -> Result<jetstream::stream::Stream<()>, BusError> {
        let stream = self.jetstream().get_stream_no_info(self.namespace().resource("jobs")).await;
        stream.map_err(|error| BusError::new("look at the queue", error))
    }

    /// Reads the notice of a stored job: its model, its sequence, whose it is and its id.
    pub fn queued_notice(&self, message: &async_nats::Message) -> Option<(ModelName, u64, Tenant, JobId)> {
        let Some(Subject::Queued(model, _, tenant)) = self.parse(&message.subject) else { return None };
        let sequence = crate::bus::number(message, "Nats-Sequence")?;
        Some((model, sequence, tenant, job_id(text(message.headers.as_ref(), "Nats-Msg-Id"), sequence)))
    }

    /// The trace that a stored job belongs to, as its notice says.
    pub fn queued_trace(&self, message: &async_nats::Message) -> Option<TraceContext> {
        let (_, _, tenant, job) = self.queued_notice(message)?;
        let told = trace(message.headers.as_ref());
        Some(told.unwrap_or_else(|| self.trace_of(&tenant, &job)))
    }
}

fn job_id(message_id: Option<&str>, sequence: u64) -> JobId {
    message_id.and_then(|id| id.parse().ok()).unwrap_or_else(|| JobId::from_sequence(sequence))
}

/// The jobs of one model, for one slot of a worker.
#[derive(Debug, Clone)]
pub struct JobQueue {
    bus: Bus,
    interactive: PullConsumer,
    batch: PullConsumer,
    redelivery: Duration,
}

impl JobQueue {
    /// The queue of `model`.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn open(bus: &Bus, model: &ModelName) -> Result<Self, BusError> {
        let stream = bus.jetstream().get_stream(bus.namespace().resource("jobs")).await;
        let stream = stream.map_err(|error| BusError::new("look at the queue", error))?;
        let redelivery = redelivery(&stream.cached_info().config);
        let interactive = consumer(bus, model, JobClass::Interactive, redelivery).await?;
        let batch = consumer(bus, model, JobClass::Batch, redelivery).await?;
        Ok(Self { bus: bus.clone(), interactive, batch, redelivery })
    }

    /// The next job; `None` when there was none for `wait`, or the connection was lost meanwhile: a pull may not survive
    /// that. An interactive job comes at once, a batch job when no interactive one came for `wait`.
    ///
    /// One pull asks for one job, so that nobody holds a job that another could run. It must be awaited to its end:
    /// a job that is delivered to a pull that was dropped comes back only when its time is over.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn next(&self, wait: Duration) -> Result<Option<Delivery>, BusError> {
        let failed = |cause: String| BusError::new("pull a job", cause);
        let mut connection = Recovery::new(&self.bus);
        let mut waiting = self
            .interactive
            .batch()
            .max_messages(1)
            .expires(wait)
            .messages()
            .await
            .map_err(|error| failed(error.to_string()))?;
        let mut message = tokio::select! {
            biased;
            message = waiting.next() => message,
            () = connection.interrupted() => return Ok(None),
        };
        if message.is_none() {
            // Without a time to expire: with one the server holds the pull, and interactive jobs are not heard meanwhile.
            let mut present =
                self.batch.fetch().max_messages(1).messages().await.map_err(|error| failed(error.to_string()))?;
            message = timeout(wait, present.next()).await.ok().flatten();
        }
        let Some(message) = message else { return Ok(None) };
        let message = message.map_err(|error| failed(error.to_string()))?;
        match Delivery::read(&self.bus, &message, self.redelivery) {
            Some(delivery) => Ok(Some(delivery)),
            None => {
                warn!(subject = %message.subject, "what was queued there is no job: its subject holds a token that is no name");
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
    consumer.map_err(|error| BusError::new(format!("make consumer {name}"), error))
}

/// A job that was handed to us, until it is settled.
#[derive(Debug)]
pub struct Delivery {
    message: jetstream::Message,
    /// Whose it is.
    pub tenant: Tenant,
    /// Which it is.
    pub job: JobId,
    /// Which delivery of it this is, from 1.
    pub attempt: u64,
    /// The trace that it belongs to: its submitter's, else its own.
    pub trace: TraceContext,
    /// How long it is ours without a word: it is to be kept several times within that.
    pub redelivery: Duration,
}

impl Delivery {
    fn read(bus: &Bus, message: &jetstream::Message, redelivery: Duration) -> Option<Self> {
        let info = message.info().ok()?;
        let Some(Subject::Job(_, _, tenant)) = bus.parse(&message.subject) else { return None };
        let job = job_id(text(message.headers.as_ref(), "Nats-Msg-Id"), info.stream_sequence);
        let attempt = u64::try_from(info.delivered).unwrap_or(1);
        let told = trace(message.headers.as_ref());
        let trace = told.unwrap_or_else(|| bus.trace_of(&tenant, &job));
        Some(Self { message: message.clone(), tenant, job, attempt, trace, redelivery })
    }

    /// The request, as it was published.
    pub fn body(&self) -> &Bytes {
        &self.message.payload
    }

    /// What a heartbeat says about it.
    pub fn in_flight(&self) -> JobInFlight {
        let ack = self.message.reply.as_ref().map(ToString::to_string).unwrap_or_default();
        JobInFlight { tenant: self.tenant.clone(), job: self.job.clone(), ack }
    }

    /// Keeps the job for another while.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn keep_alive(&self) -> Result<(), BusError> {
        self.acknowledge(AckKind::Progress).await
    }

    /// Gives the job back to the queue, for any worker.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn nak(&self) -> Result<(), BusError> {
        self.acknowledge(AckKind::Nak(None)).await
    }

    async fn acknowledge(&self, kind: AckKind) -> Result<(), BusError> {
        let said = self.message.ack_with(kind).await;
        said.map_err(|error| BusError::new(format!("acknowledge job {}", self.job), error))
    }

    /// Takes the job off the queue. Only after its last output chunk is stored.
    ///
    /// # Errors
    /// When the server does not confirm; then it is delivered again, and its output tells that it is answered.
    pub async fn ack(&self) -> Result<(), BusError> {
        let confirmed = self.message.double_ack().await;
        confirmed.map_err(|error| BusError::new(format!("settle job {}", self.job), error))
    }
}
