//! Blame of jobs for the ends of their workers: an event that extends the one before it.

use async_nats::jetstream::{message::PublishMessage, stream::LastRawMessageErrorKind};
use rbee_schema::{Event, ExitClass, HiveName, JobBlame, JobEvent, JobId, JobInFlight, Tenant, WorkerName};

use crate::{Bus, BusError, Subject};

/// The end of a worker for which a job is to be blamed.
#[derive(Debug, Clone)]
pub struct BlamedExit {
    /// Hive of the worker.
    pub hive: HiveName,
    /// Name of the worker.
    pub worker: WorkerName,
    /// Class of the exit.
    pub class: ExitClass,
    /// Exit code, if the process exited by itself.
    pub code: Option<i32>,
    /// Number of the signal that ended the process, if one did.
    pub signal: Option<i32>,
    /// Number of other jobs that the worker ran.
    pub company: u32,
    /// Last lines of the worker's standard error, oldest first.
    pub stderr_tail: Vec<String>,
}

impl Bus {
    /// Stores that a delivery of a job may have caused the end of its worker. Repeating the call stores it once.
    ///
    /// # Errors
    /// The server does not answer, or does not store the event.
    pub async fn blame(&self, delivery: &JobInFlight, exit: &BlamedExit) -> Result<(), BusError> {
        let JobInFlight { tenant, job, ack, .. } = delivery;
        let (before, last_chunk) = futures::try_join!(self.blame_of(tenant, job), self.last_chunk(tenant, job))?;
        let (alone, together) = before.map_or((0, 0), |before| (before.alone, before.together));
        let is_alone = exit.company == 0;
        let blame = JobBlame {
            hive: exit.hive.clone(),
            worker: exit.worker.clone(),
            class: exit.class,
            code: exit.code,
            signal: exit.signal,
            company: exit.company,
            alone: alone.saturating_add(u32::from(is_alone)),
            together: together.saturating_add(u32::from(!is_alone)),
            last_chunk: last_chunk.map_or(0, |last| last.sequence),
            stderr_tail: exit.stderr_tail.clone(),
        };
        let (subject, body) = self.event_message(&Event::Job(tenant.clone(), job.clone(), JobEvent::Blamed(blame)));
        let stored =
            self.store(subject, PublishMessage::build().payload(body).message_id(format!("blame-{ack}"))).await;
        stored.map(drop).map_err(|error| BusError::new(format!("blame job {job}"), error))
    }

    /// Blame of a job so far. `None` if it was never blamed.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn blame_of(&self, tenant: &Tenant, job: &JobId) -> Result<Option<JobBlame>, BusError> {
        let subject = self.subject(&Subject::JobEvent(tenant.clone(), job.clone(), "blamed".to_owned()));
        let failed = |cause: String| BusError::new(format!("read the blame of job {job}"), cause);
        let events = self.jetstream().get_stream_no_info(self.namespace().resource("events")).await;
        let events = events.map_err(|error| failed(error.to_string()))?;
        match events.get_last_raw_message_by_subject(&subject).await {
            Ok(stored) => match serde_json::from_slice(&stored.payload) {
                Ok(JobEvent::Blamed(blame)) => Ok(Some(blame)),
                // Whatever else is stored there was not written by a hive, and must not keep the job from running.
                Ok(_) | Err(_) => Ok(None),
            },
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}
