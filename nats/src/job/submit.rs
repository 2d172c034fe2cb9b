//! Submission of jobs.

use async_nats::jetstream::{
    context::{PublishError, PublishErrorKind},
    message::PublishMessage,
};
use bytes::Bytes;
use rbee_schema::{Deadlines, Failure, FailureCode, JobClass, JobId, MAX_BODY_BYTES, ModelName, Tenant};
use tracing::{Instrument as _, Span, field::Empty, info_span};

use super::{StoredBody, deadline::with_deadlines, id::message_id};
use crate::{
    Bus, Subject, server_error,
    trace::{TraceContext, continue_trace, start_trace, with_trace},
};

/// Job to be queued.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Model that answers the job.
    pub model: ModelName,
    /// Class of the job.
    pub class: JobClass,
    /// Tenant that owns the job.
    pub tenant: Tenant,
    /// Id of the job, unique within its tenant.
    pub job: JobId,
    /// Request as JSON. The worker validates it. A body of more than [`MAX_BODY_BYTES`] is stored apart from the job.
    pub body: Bytes,
}

/// Facts about a job that its headers state.
struct Headers<'a> {
    trace: TraceContext,
    deadlines: Deadlines,
    /// Body of the job, if it is stored apart from it.
    stored_body: Option<&'a StoredBody>,
}

impl Bus {
    /// Queues a job. When this returns, the job is stored.
    ///
    /// # Errors
    /// `body-too-large`, `queue-full`, `duplicate-job`, or `timed-out` if the server does not answer. After `timed-out` the job
    /// may be stored or not; submitting it again with the same id is safe, and `duplicate-job` then says that it is stored. A
    /// large body of a job that was refused is deleted.
    pub async fn submit(&self, submission: Submission) -> Result<(), Failure> {
        self.submit_in(submission, None).await
    }

    /// Queues a job whose body is stored: the body of the submission is ignored.
    ///
    /// # Errors
    /// Those of [`Bus::submit`]. The body stays stored.
    pub async fn submit_with_stored_body(
        &self,
        submission: Submission,
        body: &StoredBody,
        deadlines: Deadlines,
        client: Option<TraceContext>,
    ) -> Result<(), Failure> {
        let (span, trace) = self.span(&submission, client);
        let submission = Submission { body: Bytes::new(), ..submission };
        self.queue(submission, Headers { trace, deadlines, stored_body: Some(body) }).instrument(span).await
    }

    /// Queues a job within the trace of the client. Without one, the job starts its own trace.
    ///
    /// # Errors
    /// Those of [`Bus::submit`].
    pub async fn submit_in(&self, submission: Submission, client: Option<TraceContext>) -> Result<(), Failure> {
        self.submit_until(submission, Deadlines::default(), client).await
    }

    /// Queues a job with deadlines, within the trace of the client.
    ///
    /// # Errors
    /// Those of [`Bus::submit`].
    pub async fn submit_until(
        &self,
        submission: Submission,
        deadlines: Deadlines,
        client: Option<TraceContext>,
    ) -> Result<(), Failure> {
        let (span, trace) = self.span(&submission, client);
        let headers = Headers { trace, deadlines, stored_body: None };
        async {
            if submission.body.len() <= MAX_BODY_BYTES {
                return self.queue(submission, headers).await;
            }
            let body = self.store_body(&submission.tenant, &submission.job, &submission.body).await?;
            let headers = Headers { stored_body: Some(&body), ..headers };
            let queued = self.queue(Submission { body: Bytes::new(), ..submission }, headers).await;
            // After a timeout the job may be stored, and then it needs its body.
            if queued.as_ref().is_err_and(|failure| failure.code != FailureCode::TimedOut) {
                self.delete_body(&body).await;
            }
            queued
        }
        .instrument(span)
        .await
    }

    /// The span of a submission, and the trace of its job.
    fn span(&self, submission: &Submission, client: Option<TraceContext>) -> (Span, TraceContext) {
        let Submission { model, job, tenant, .. } = submission;
        let span = info_span!(parent: None, "submit", %model, %job, %tenant, trace = Empty);
        let trace = match client {
            Some(client) => continue_trace(&span, &client),
            None => start_trace(&span, &self.trace_of(tenant, job)),
        };
        span.record("trace", trace.id());
        (span, trace)
    }

    async fn queue(&self, submission: Submission, headers: Headers<'_>) -> Result<(), Failure> {
        let Submission { model, class, tenant, job, body } = submission;
        let subject = self.subject(&Subject::Job(model.clone(), class, tenant.clone()));
        let message = PublishMessage::build().payload(body).message_id(message_id(&tenant, &job));
        let Headers { trace, deadlines, stored_body } = headers;
        let message = match stored_body {
            Some(stored_body) => stored_body.write(message),
            None => message,
        };
        let stored = self.store(subject, with_deadlines(&deadlines, with_trace(&trace, message))).await;
        let stored = stored.map_err(|error| refusal(&error, &model, class, &tenant))?;
        if stored.duplicate { Err(duplicate_job(&tenant, &job)) } else { Ok(()) }
    }
}

/// The failure for an id that was used before.
pub fn duplicate_job(tenant: &Tenant, job: &JobId) -> Failure {
    let message = format!(
        "a job with the id {job} of tenant {tenant} was submitted before: read its output with \
         `rbee attach {job} --tenant {tenant}`, or submit this job with another id"
    );
    Failure::new(FailureCode::DuplicateJob, message)
}

fn refusal(error: &PublishError, model: &ModelName, class: JobClass, tenant: &Tenant) -> Failure {
    let cause = error.to_string();
    if server_error::is_full(&cause) {
        let message = format!("too many {class} jobs of tenant {tenant} wait for model {model}: submit the job later");
        Failure::new(FailureCode::QueueFull, message)
    } else if error.kind() == PublishErrorKind::MaxPayloadExceeded {
        Failure::new(FailureCode::BodyTooLarge, cause)
    } else {
        Failure::new(FailureCode::TimedOut, format!("the job was not accepted: {cause}"))
    }
}
