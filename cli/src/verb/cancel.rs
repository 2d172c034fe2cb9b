//! `rbee cancel`: cancels a job.

use std::time::Duration;

use clap::Args;
use rbee_schema::{Chunk, Failure, FailureCode, JobId, Tenant};

use crate::{Context, error::CliError};

/// Longest wait for the end of a cancelled job, without `--patience`. A worker notices a cancellation within one step of
/// its engine, which takes seconds at most.
const PATIENCE: Duration = Duration::from_secs(10);

/// Options of `rbee cancel`.
#[derive(Debug, Args)]
pub(crate) struct Cancel {
    /// Id of the job.
    job: JobId,
    /// Tenant that owns the job.
    #[arg(long, default_value = "default", value_name = "NAME")]
    tenant: Tenant,
}

impl Cancel {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        let bus = context.bus("cli/cancel").await?;
        let mut output = bus.read_output(&self.tenant, &self.job).await?;
        bus.cancel(&self.tenant, &self.job).await?;
        loop {
            match output.next(context.patience(PATIENCE)).await {
                Ok(Some(committed)) => match committed.chunk {
                    Chunk::Error { error: Failure { code: FailureCode::Cancelled, .. } } => {
                        println!("job {} is cancelled", self.job);
                        return Ok(());
                    }
                    Chunk::Done { .. } | Chunk::Error { .. } => {
                        return Err(CliError::failed(format!("job {} had already ended", self.job)));
                    }
                    Chunk::Started { .. }
                    | Chunk::Resumed { .. }
                    | Chunk::Paused { .. }
                    | Chunk::Tokens { .. }
                    | Chunk::Embeddings { .. } => {}
                },
                Ok(None) => return Ok(()),
                Err(error) => return Err(CliError::unavailable(format!("job {} did not end: {error}", self.job))),
            }
        }
    }
}
