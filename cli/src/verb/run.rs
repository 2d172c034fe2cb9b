//! `rbee run`: submits a job and prints its answer. Step 1 of a job's path.

use clap::Args;
use rbee_nats::{Bus, OutputReader};
use rbee_schema::{JobId, ModelKind, Tenant};

use crate::{
    Context,
    error::CliError,
    job_output::{JobEnd, print_answer},
    prompt::PromptOptions,
    signals::ClientSignals,
    submission::submit,
    waiting::Waiting,
};

/// Options of `rbee run`.
#[derive(Debug, Args)]
#[command(
    after_help = "Ctrl-C, a closed terminal and a closed pipe cancel the job. With --detach it runs on: `rbee attach JOB` \
                        prints its answer."
)]
pub(crate) struct Run {
    #[command(flatten)]
    prompt: PromptOptions,
    /// Leave the job running when this command is interrupted.
    #[arg(long)]
    detach: bool,
    /// Print where the job waits to standard error, also if that is no terminal.
    #[arg(short, long)]
    verbose: bool,
}

impl Run {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        let deadlines = self.prompt.deadlines();
        let submission = self.prompt.submission()?;
        let bus = context.bus("cli/run").await?;
        let (tenant, job) = (submission.tenant.clone(), submission.job.clone());
        let waiting = Waiting::new(&bus, &submission.model, &tenant, self.verbose);
        let mut output = bus.read_output(&tenant, &job).await?;
        // Before the job is queued: a signal would otherwise leave it behind.
        let mut signals = ClientSignals::listen()?;
        submit(&bus, submission, deadlines, ModelKind::Text).await?;
        let end = tokio::select! {
            end = print_answer(&mut output, &context, waiting) => Some(end?),
            () = signals.next() => None,
        };
        match end {
            Some(JobEnd::Done) => return Ok(()),
            Some(JobEnd::Failed(failure)) => return Err(CliError::job(&failure)),
            Some(JobEnd::Unwritten(_)) | None => {}
        }
        if self.detach {
            eprintln!("rbee: job {job} runs on; `rbee attach {job}` prints its answer");
        } else {
            cancel(&bus, (&tenant, &job), &mut output, &context).await?;
        }
        match end {
            Some(JobEnd::Unwritten(error)) => Err(error),
            _ if self.detach => Err(CliError::interrupted("")),
            _ => Err(CliError::interrupted(format!("job {job} is cancelled"))),
        }
    }
}

/// Cancels a job, and prints what arrives until the cancellation takes effect and ends the output.
async fn cancel(
    bus: &Bus,
    (tenant, job): (&Tenant, &JobId),
    output: &mut OutputReader,
    context: &Context,
) -> Result<(), CliError> {
    bus.cancel(tenant, job).await?;
    let _ = print_answer(output, context, Waiting::default()).await;
    Ok(())
}
