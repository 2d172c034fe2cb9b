//! `rbee cancel`: cancels a job.

use std::time::Duration;

use clap::Args;
use rbee_nats::{Bus, JobFinder, unknown_job};
use rbee_schema::{
    Chunk, Failure, FailureCode, JobId, Tenant,
    api::{self, CancelReply, JobState},
};

use crate::{
    Context,
    error::CliError,
    output::{self, say},
};

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

/// Process that carries the cancellation out.
enum Executor {
    /// A queen runs.
    Queen,
    /// No queen answers. The next queen, or the next worker that receives the job, finds the cancellation.
    Nobody,
}

impl Cancel {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        let bus = context.bus("cli/cancel").await?;
        let (state, executor) = self.request(&bus).await?;
        let job = &self.job;
        let message = match (state, executor) {
            (JobState::Finished, _) => return Err(CliError::failed(format!("job {job} had already ended"))),
            (JobState::Queued, Executor::Nobody) => {
                format!("job {job} was queued; no queen runs, so it is cancelled when one starts")
            }
            (JobState::Queued | JobState::Running, _) => {
                self.wait(&bus, &context).await?;
                format!("job {job} is cancelled; it was {}", state.as_str())
            }
        };
        if context.json {
            output::json(&CancelReply { job: job.clone(), state });
        } else {
            say!("{message}");
        }
        Ok(())
    }

    /// Requests the cancellation: from the queen, or without one by storing the cancellation here.
    async fn request(&self, bus: &Bus) -> Result<(JobState, Executor), CliError> {
        let Self { job, tenant } = self;
        let request = api::Cancel { tenant: tenant.clone(), job: job.clone() };
        match bus.request::<_, CancelReply>("cancel", &request).await {
            Ok(reply) => return Ok((reply.state, Executor::Queen)),
            Err(failure) if failure.code == FailureCode::TimedOut => {}
            Err(failure) => return Err(failure.into()),
        }
        let state = bus.job_state(&JobFinder::start(bus), tenant, job).await?;
        let state = state.ok_or_else(|| unknown_job(tenant, job))?;
        if state != JobState::Finished {
            bus.cancel(tenant, job).await?;
        }
        Ok((state, Executor::Nobody))
    }

    /// Waits until the job has ended.
    async fn wait(&self, bus: &Bus, context: &Context) -> Result<(), CliError> {
        let mut output = bus.read_output(&self.tenant, &self.job).await?;
        let failed = |why: String| {
            CliError::unavailable(format!(
                "job {} did not end: {why}; its cancellation is stored, and takes effect when a worker or a queen reads it",
                self.job
            ))
        };
        loop {
            match output.next(context.patience(PATIENCE)).await {
                Ok(Some(committed)) => match committed.chunk {
                    Chunk::Error { error: Failure { code: FailureCode::Cancelled, .. } } => return Ok(()),
                    Chunk::Done { .. } | Chunk::Error { .. } => {
                        return Err(CliError::failed(format!("job {} ended before it was cancelled", self.job)));
                    }
                    Chunk::Started { .. }
                    | Chunk::Resumed { .. }
                    | Chunk::Paused { .. }
                    | Chunk::Tokens { .. }
                    | Chunk::Embeddings { .. } => {}
                },
                Ok(None) => return Ok(()),
                Err(error) => return Err(failed(error.to_string())),
            }
        }
    }
}
