//! Options and body of a job that a verb submits. Step 1 of a job's path.

use std::io::Read as _;

use bytes::Bytes;
use clap::Args;
use rbee_nats::{Bus, Submission, duplicate_job, trace::TraceContext};
use rbee_queen::declared;
use rbee_schema::{Deadline, Deadlines, JobClass, JobId, ModelKind, ModelName, Tenant};
use serde::Serialize;

use crate::error::CliError;

/// Options of every verb that submits a job.
#[derive(Debug, Clone, Args)]
pub(crate) struct SubmissionOptions {
    /// Run the job only while no interactive job of the model waits.
    #[arg(long)]
    batch: bool,
    /// Id of the job. A second submission with the same id is refused.
    #[arg(long, value_name = "ID")]
    id: Option<JobId>,
    /// Tenant that owns the job.
    #[arg(long, default_value = "default", value_name = "NAME")]
    tenant: Tenant,
    /// Time until the answer must be complete, such as 30s, or `none`. An answer in progress ends there.
    #[arg(long, value_name = "TIME", value_parser = Deadline::parse)]
    deadline: Option<Deadline>,
    /// Time until a worker must have started the job, such as 5s, or `none`. Then the job is refused.
    #[arg(long, value_name = "TIME", value_parser = Deadline::parse)]
    queue_deadline: Option<Deadline>,
}

impl SubmissionOptions {
    /// Deadlines of the job.
    pub(crate) fn deadlines(&self) -> Deadlines {
        Deadlines { total: self.deadline.unwrap_or_default(), queue: self.queue_deadline.unwrap_or_default() }
    }

    /// A job for `model` with this body as JSON.
    pub(crate) fn build(self, model: ModelName, body: &impl Serialize) -> Result<Submission, CliError> {
        Ok(Submission {
            model,
            class: if self.batch { JobClass::Batch } else { JobClass::Interactive },
            tenant: self.tenant,
            job: self.id.unwrap_or_else(JobId::generate),
            body: Bytes::from(serde_json::to_vec(body).map_err(CliError::failed)?),
        })
    }
}

/// Queues a job in the trace of this process.
///
/// # Errors
/// The model is not declared or is of another kind, a job with this id was submitted before, or the queue refuses the job.
pub(crate) async fn submit(
    bus: &Bus,
    submission: Submission,
    deadlines: Deadlines,
    kind: ModelKind,
) -> Result<(), CliError> {
    let Submission { model, tenant, job, .. } = &submission;
    declared(bus, model.as_str(), kind).await.map_err(|failure| CliError::job(&failure))?;
    // The server notices an id that is used again only within minutes.
    if bus.last_chunk(tenant, job).await?.is_some() {
        return Err(duplicate_job(tenant, job).into());
    }
    Ok(bus.submit_until(submission, deadlines, TraceContext::from_env()).await?)
}

/// The argument itself, or the content of standard input if it is `-`.
///
/// # Errors
/// Standard input cannot be read.
pub(crate) fn text(argument: String) -> Result<String, CliError> {
    if argument != "-" {
        return Ok(argument);
    }
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    read.map_err(|error| CliError::failed(format!("failed to read standard input: {error}")))?;
    Ok(text)
}
