//! Options and body of a job that a verb submits. Step 1 of a job's path.

use std::io::Read as _;

use bytes::Bytes;
use clap::Args;
use rbee_nats::Submission;
use rbee_schema::{JobClass, JobId, ModelName, Tenant};
use serde::Serialize;

use crate::error::CliError;

/// Options of every verb that submits a job.
#[derive(Debug, Clone, Args)]
pub(crate) struct SubmissionOptions {
    /// Run the job only while no interactive job of the model waits.
    #[arg(long)]
    batch: bool,
    /// Id of the job. A second submission with the same id is dropped as a duplicate.
    #[arg(long, value_name = "ID")]
    id: Option<JobId>,
    /// Tenant that owns the job.
    #[arg(long, default_value = "default", value_name = "NAME")]
    tenant: Tenant,
}

impl SubmissionOptions {
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
