//! `rbee run`: submits a job and prints its answer. Step 1 of a job's path.

use clap::Args;
use rbee_schema::ModelKind;
use tokio::signal::ctrl_c;

use crate::{
    Context,
    error::CliError,
    job_output::{JobEnd, print_answer},
    prompt::PromptOptions,
    submission::submit,
};

/// Options of `rbee run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    prompt: PromptOptions,
}

impl Run {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        let submission = self.prompt.submission()?;
        let bus = context.bus("cli/run").await?;
        let (tenant, job) = (submission.tenant.clone(), submission.job.clone());
        let mut output = bus.read_output(&tenant, &job).await?;
        submit(&bus, submission, ModelKind::Text).await?;
        tokio::select! {
            end = print_answer(&mut output, &context) => match end? {
                JobEnd::Done => Ok(()),
                JobEnd::Failed(failure) => Err(CliError::job(&failure)),
            },
            _ = ctrl_c() => {
                bus.cancel(&tenant, &job).await?;
                // Prints what arrives until the cancellation takes effect and ends the output.
                let _ = print_answer(&mut output, &context).await;
                Err(CliError::interrupted(format!("job {job} is cancelled")))
            }
        }
    }
}
