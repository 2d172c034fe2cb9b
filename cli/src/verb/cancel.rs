//! `rbee cancel`: a job is no longer wanted.

use std::time::Duration;

use clap::Args;
use rbee_schema::{Chunk, Failure, FailureCode, JobId, Tenant};

use crate::{Setting, outcome::Outcome};

/// How long the end of a cancelled job may take to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Options of `rbee cancel`.
#[derive(Debug, Args)]
pub struct Cancel {
    /// The job's id.
    job: JobId,
    /// Whose job it is.
    #[arg(long, default_value = "default", value_name = "NAME")]
    tenant: Tenant,
}

impl Cancel {
    pub(crate) async fn run(self, setting: Setting) -> Result<(), Outcome> {
        let bus = setting.bus("cli/cancel").await?;
        let mut output = bus.read_output(&self.tenant, &self.job).await?;
        bus.cancel(&self.tenant, &self.job).await?;
        loop {
            match output.next(setting.patience(PATIENCE)).await {
                Ok(Some(committed)) => match committed.chunk {
                    Chunk::Error { error: Failure { code: FailureCode::Cancelled, .. } } => {
                        println!("job {} is cancelled", self.job);
                        return Ok(());
                    }
                    Chunk::Done { .. } | Chunk::Error { .. } => {
                        return Err(Outcome::failed(format!("job {} had ended before", self.job)));
                    }
                    Chunk::Started { .. }
                    | Chunk::Resumed { .. }
                    | Chunk::Paused { .. }
                    | Chunk::Tokens { .. }
                    | Chunk::Embeddings { .. } => {}
                },
                Ok(None) => return Ok(()),
                Err(error) => return Err(Outcome::unavailable(format!("job {} did not end: {error}", self.job))),
            }
        }
    }
}
