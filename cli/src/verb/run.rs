//! `rbee run`: a job, and its answer as it comes. Step 1 of a job's path.

use clap::Args;
use rbee_nats::trace::TraceContext;
use rbee_schema::{JobId, Tenant};
use tokio::signal::ctrl_c;

use super::attach::{Printed, print};
use crate::{Setting, outcome::Outcome, prompt::PromptOptions};

/// Options of `rbee run`.
#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    prompt: PromptOptions,
}

impl Run {
    pub(crate) async fn run(self, setting: Setting) -> Result<(), Outcome> {
        let submission = self.prompt.submission()?;
        let bus = setting.bus("cli/run").await?;
        let (tenant, job): (Tenant, JobId) = (submission.tenant.clone(), submission.job.clone());
        let mut output = bus.read_output(&tenant, &job).await?;
        bus.submit_in(submission, TraceContext::from_env()).await?;
        tokio::select! {
            printed = print(&mut output, &setting) => match printed? {
                Printed::Done => Ok(()),
                Printed::Failed(failure) => Err(Outcome::job(&failure)),
            },
            _ = ctrl_c() => {
                bus.cancel(&tenant, &job).await?;
                // What comes until the job has heard of it is printed too; then it has ended.
                let _ = print(&mut output, &setting).await;
                Err(Outcome::interrupted(format!("job {job} is cancelled")))
            }
        }
    }
}
