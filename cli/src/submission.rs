//! How a job is submitted, whatever it asks for. Step 1 of a job's path.

use std::io::Read as _;

use bytes::Bytes;
use clap::Args;
use rbee_nats::Submission;
use rbee_schema::{JobClass, JobId, ModelName, Tenant};
use serde::Serialize;

use crate::outcome::Outcome;

/// The options that every verb has which submits a job.
#[derive(Debug, Clone, Args)]
pub(crate) struct SubmissionOptions {
    /// Run it when nothing more urgent waits.
    #[arg(long)]
    batch: bool,
    /// The id of the job; the same id twice is the same job.
    #[arg(long, value_name = "ID")]
    id: Option<JobId>,
    /// Whose job it is.
    #[arg(long, default_value = "default", value_name = "NAME")]
    tenant: Tenant,
}

impl SubmissionOptions {
    /// A job for a model, with this body.
    pub(crate) fn submission(self, model: ModelName, body: &impl Serialize) -> Result<Submission, Outcome> {
        Ok(Submission {
            model,
            class: if self.batch { JobClass::Batch } else { JobClass::Interactive },
            tenant: self.tenant,
            job: self.id.unwrap_or_else(JobId::generate),
            body: Bytes::from(serde_json::to_vec(body).map_err(Outcome::failed)?),
        })
    }
}

/// The text of an argument: what standard input has, where it is `-`.
pub(crate) fn text(argument: String) -> Result<String, Outcome> {
    if argument != "-" {
        return Ok(argument);
    }
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    read.map_err(|error| Outcome::failed(format!("failed to read standard input: {error}")))?;
    Ok(text)
}
