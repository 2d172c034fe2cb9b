//! Dead letters: jobs that were given up. A dead letter is submitted again at most once.
//!
//! A retry is a new job, because the output of the old id ends with a failure and is never written again. The id of the new job
//! follows from the sequence of the dead letter. So a retry that is repeated after a crash, or made by two people at once,
//! submits the same job, which the queue and the output know.

use std::time::SystemTime;

use async_nats::jetstream::{context::PublishErrorKind, message::PublishMessage, stream::LastRawMessageErrorKind};
use bytes::Bytes;
use rbee_schema::{DeadJob, Deadlines, Event, Failure, FailureCode, JobClass, JobEvent, JobId, ModelName, Tenant};

use super::{JobFinder, StoredBody, Submission};
use crate::{Bus, BusError, Subject, bus::json, server_error};

/// Characters that a job id may have.
const ID_LENGTH: usize = 64;

/// Text between the id of a job that was given up and the number of its dead letter, in the id of the new job.
const RETRY: &str = "-retry-";

/// Stored dead letter.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Sequence in the stream `dead`.
    pub sequence: u64,
    /// Model of the job.
    pub model: ModelName,
    /// The dead letter.
    pub dead: DeadJob,
    /// Time at which the job was given up.
    pub stored: SystemTime,
}

impl Bus {
    /// Stores a job that was given up in the dead-letter stream. If the letter is too large for a message, it is stored without
    /// the body of the job and without the last lines of the worker.
    ///
    /// # Errors
    /// The server does not store it.
    pub async fn store_dead_job(&self, model: &ModelName, dead: &DeadJob) -> Result<(), BusError> {
        if self.store_letter(model, dead).await? == Stored::No {
            let mut short = DeadJob { body: String::new(), ..dead.clone() };
            short.exit.iter_mut().for_each(|exit| exit.stderr_tail.clear());
            self.store_letter(model, &short).await?;
        }
        Ok(())
    }

    async fn store_letter(&self, model: &ModelName, dead: &DeadJob) -> Result<Stored, BusError> {
        let DeadJob { tenant, job, .. } = dead;
        let subject = self.subject(&Subject::Dead(model.clone(), tenant.clone(), job.clone()));
        let message = PublishMessage::build().payload(json(dead)).message_id(format!("{tenant}.{job}"));
        match self.store(subject, message).await {
            Ok(_) => Ok(Stored::Yes),
            Err(error)
                if error.kind() == PublishErrorKind::MaxPayloadExceeded
                    || server_error::is_too_large(&error.to_string()) =>
            {
                Ok(Stored::No)
            }
            Err(error) => Err(BusError::new(format!("store dead job {job}"), error)),
        }
    }

    /// Dead letter of a job, the last one if there are several.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn dead_letter(&self, tenant: &Tenant, job: &JobId) -> Result<Option<DeadLetter>, BusError> {
        let failed = |cause: String| BusError::new(format!("read the dead letter of job {job}"), cause);
        let stream = self.jetstream().get_stream_no_info(self.namespace().resource("dead")).await;
        let stream = stream.map_err(|error| failed(error.to_string()))?;
        let filter = self.namespace().dead_letter_of(tenant, job);
        match stream.get_last_raw_message_by_subject(&filter).await {
            Ok(found) => Ok(self.read_letter(&found.subject, found.sequence, &found.payload, found.time.into())),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// Reads a message of the dead-letter stream. `None` for one that is no dead letter.
    pub(super) fn read_letter(
        &self,
        subject: &str,
        sequence: u64,
        payload: &Bytes,
        stored: SystemTime,
    ) -> Option<DeadLetter> {
        let Subject::Dead(model, ..) = self.parse(subject)? else { return None };
        Some(DeadLetter { sequence, model, dead: serde_json::from_slice(payload).ok()?, stored })
    }

    /// Submits a dead letter again and removes it. Returns the id of the new job. Repeating the call submits nothing more.
    ///
    /// # Errors
    /// The reason why the job was not submitted. The dead letter is kept then.
    pub async fn retry(&self, finder: &JobFinder, letter: &DeadLetter) -> Result<JobId, Failure> {
        let DeadLetter { sequence, model, dead, .. } = letter;
        let DeadJob { tenant, job, submitted, body, body_object, .. } = dead;
        if body.is_empty() && body_object.is_none() {
            return Err(no_body(dead));
        }
        let retried_as = retry_id(job, *sequence);
        if !self.knows(finder, tenant, &retried_as).await.map_err(unreachable)? {
            let submission = Submission {
                model: model.clone(),
                class: submitted.as_ref().map_or(JobClass::Interactive, |submitted| submitted.class),
                tenant: tenant.clone(),
                job: retried_as.clone(),
                body: Bytes::from(body.clone()),
            };
            let resubmitted = match body_object {
                Some(object) => {
                    let body = StoredBody::named(object, tenant)?;
                    self.submit_with_stored_body(submission, &body, Deadlines::default(), None).await
                }
                None => self.submit(submission).await,
            };
            match resubmitted {
                // Somebody else submits the same dead letter.
                Err(failure) if failure.code == FailureCode::DuplicateJob => {}
                submitted => submitted?,
            }
        }
        self.link(letter, &retried_as).await.map_err(unreachable)?;
        self.delete_message("dead", *sequence).await.map_err(unreachable)?;
        Ok(retried_as)
    }

    /// Stores the events that link a dead letter and the job in its place; once, however often this is called.
    async fn link(&self, DeadLetter { sequence, dead, .. }: &DeadLetter, retried_as: &JobId) -> Result<(), BusError> {
        let DeadJob { tenant, job, .. } = dead;
        let old = JobEvent::Retried { retried_as: retried_as.clone() };
        let new = JobEvent::Resubmitted { retry_of: job.clone() };
        self.store_event(&Event::Job(tenant.clone(), job.clone(), old), &format!("retried-{sequence}")).await?;
        let new = Event::Job(tenant.clone(), retried_as.clone(), new);
        self.store_event(&new, &format!("resubmitted-{sequence}")).await
    }

    /// True if a job was submitted: it waits, or has output or events.
    async fn knows(&self, finder: &JobFinder, tenant: &Tenant, job: &JobId) -> Result<bool, BusError> {
        if self.last_chunk(tenant, job).await?.is_some() || !self.job_history(tenant, job).await?.events.is_empty() {
            return Ok(true);
        }
        finder.find(tenant, job).await.map(|found| found.is_some())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stored {
    Yes,
    /// The message is too large.
    No,
}

/// Id of the job that is submitted in place of a dead letter.
fn retry_id(job: &JobId, sequence: u64) -> JobId {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let first = match job.as_str().rsplit_once(RETRY) {
        Some((first, number)) if is_number(number) => first,
        _ => job.as_str(),
    };
    let suffix = format!("{RETRY}{sequence}");
    let first: String = first.chars().take(ID_LENGTH - suffix.len()).collect();
    JobId::from_lossy(&format!("{first}{suffix}"))
}

/// The failure for a job that has no dead letter.
pub fn no_dead_letter(tenant: &Tenant, job: &JobId) -> Failure {
    let message = format!(
        "there is no dead letter of job {job} of tenant {tenant}: it was retried or has expired, or the job was not given up; \
         `rbee explain {job} --tenant {tenant}` shows what happened to it, and `rbee jobs --dead` lists the dead letters"
    );
    Failure::new(FailureCode::UnknownJob, message)
}

fn no_body(DeadJob { job, .. }: &DeadJob) -> Failure {
    let message =
        format!("the dead letter of job {job} does not hold its body, which was too large: submit it again yourself");
    Failure::new(FailureCode::BodyTooLarge, message)
}

fn unreachable(error: BusError) -> Failure {
    Failure::new(FailureCode::TimedOut, format!("the job may be submitted; repeat the retry: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_of_a_retry_names_the_first_job_and_the_dead_letter() {
        let long = "x".repeat(64);
        for (job, sequence, expected) in [
            ("a", 7, "a-retry-7".to_owned()),
            ("a-retry-7", 31, "a-retry-31".to_owned()),
            ("a-retry-soon", 7, "a-retry-soon-retry-7".to_owned()),
            (&long, 123, format!("{}-retry-123", "x".repeat(54))),
        ] {
            let id = retry_id(&job.parse().expect("a name"), sequence);
            assert_eq!(id.as_str(), expected);
            assert!(id.as_str().parse::<JobId>().is_ok());
        }
    }
}
