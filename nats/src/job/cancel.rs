//! Cancellation of jobs. A cancellation is published to whoever runs the job, and stored for whoever will receive it later.

use std::time::SystemTime;

use async_nats::jetstream::{ErrorCode, message::PublishMessage, stream::LastRawMessageErrorKind};
use bytes::Bytes;
use rbee_schema::{Failure, FailureCode, JobId, Tenant, api::JobState};

use super::{Delivery, JobFinder};
use crate::{
    Bus, BusError, Subject,
    batch::{MANY, Position},
};

/// Stored cancellation. It is meant for the job of this tenant and id that was queued before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCancel {
    /// Tenant that owns the job.
    pub tenant: Tenant,
    /// Id of the job.
    pub job: JobId,
    /// Time at which the server stored the cancellation.
    pub stored: SystemTime,
}

/// The failure for a job that neither the queue nor the output knows.
pub fn unknown_job(tenant: &Tenant, job: &JobId) -> Failure {
    let message = format!(
        "there is no job {job} of tenant {tenant}: it was never submitted, or its output has expired; `rbee events` shows the \
         events of jobs"
    );
    Failure::new(FailureCode::UnknownJob, message)
}

impl Bus {
    /// Requests the cancellation of a job. The worker that runs the job, or the leading queen if none does, answers the job with
    /// an `error` chunk. When this returns, the request is stored: it is carried out even if nobody can do so now.
    ///
    /// # Errors
    /// The server does not store it.
    pub async fn cancel(&self, tenant: &Tenant, job: &JobId) -> Result<(), BusError> {
        let subject = self.subject(&Subject::Cancel(tenant.clone(), job.clone()));
        let stored = self.store(subject, PublishMessage::build().payload(Bytes::new())).await;
        stored.map(drop).map_err(|error| BusError::new(format!("cancel job {job}"), error))
    }

    /// State of a job: from the queue and from its output. `None` if neither knows it.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn job_state(
        &self,
        finder: &JobFinder,
        tenant: &Tenant,
        job: &JobId,
    ) -> Result<Option<JobState>, BusError> {
        let queued = finder.find(tenant, job).await?;
        let last = self.last_chunk(tenant, job).await?;
        Ok(match (queued, last) {
            (None, None) => None,
            (None, Some(_)) => Some(JobState::Finished),
            (Some(queued), Some(last)) if last.stored >= queued.stored => {
                Some(if last.is_last { JobState::Finished } else { JobState::Running })
            }
            (Some(_), _) => Some(JobState::Queued),
        })
    }

    /// True if a cancellation of this delivered job is stored. An older one was meant for an earlier job of the same id.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn is_cancelled(&self, delivery: &Delivery) -> Result<bool, BusError> {
        let Delivery { tenant, job, stored, .. } = delivery;
        Ok(self.cancelled_at(tenant, job).await?.is_some_and(|cancelled| cancelled > *stored))
    }

    /// Time of the last stored cancellation of a job, if there is one.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn cancelled_at(&self, tenant: &Tenant, job: &JobId) -> Result<Option<SystemTime>, BusError> {
        let failed = |cause: String| BusError::new(format!("read the cancellation of job {job}"), cause);
        let stream = self.jetstream().get_stream_no_info(self.namespace().resource("cancels")).await;
        let stream = stream.map_err(|error| failed(error.to_string()))?;
        let subject = self.subject(&Subject::Cancel(tenant.clone(), job.clone()));
        match stream.get_last_raw_message_by_subject(&subject).await {
            Ok(cancel) => Ok(Some(cancel.time.into())),
            Err(error) => match error.kind() {
                LastRawMessageErrorKind::NoMessageFound => Ok(None),
                // Whoever deleted the stream has deleted the cancellations. Jobs run without it.
                LastRawMessageErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                    Ok(None)
                }
                _ => Err(failed(error.to_string())),
            },
        }
    }

    /// All stored cancellations, oldest first. The size of their stream limits their number.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn stored_cancels(&self) -> Result<Vec<StoredCancel>, BusError> {
        let (mut cancels, mut from) = (Vec::new(), 1);
        loop {
            let batch =
                self.read_batch("cancels", &self.namespace().all_cancels(), Position::Sequence(from), MANY).await?;
            let Some(last) = batch.last() else { return Ok(cancels) };
            from = last.sequence + 1;
            for message in batch {
                if let Some(Subject::Cancel(tenant, job)) = self.parse(&message.subject) {
                    cancels.push(StoredCancel { tenant, job, stored: message.stored });
                }
            }
        }
    }
}
