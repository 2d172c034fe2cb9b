//! `rbee submit`: queues a job and does not wait for its answer.

use clap::Args;
use rbee_schema::ModelKind;

use crate::{
    Context,
    error::CliError,
    output::{self, say},
    prompt::PromptOptions,
    submission::submit,
};

/// Options of `rbee submit`.
#[derive(Debug, Args)]
pub(crate) struct Submit {
    #[command(flatten)]
    prompt: PromptOptions,
}

impl Submit {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        let deadlines = self.prompt.deadlines();
        let submission = self.prompt.submission()?;
        let bus = context.bus("cli/submit").await?;
        let job = submission.job.clone();
        submit(&bus, submission, deadlines, ModelKind::Text).await?;
        if context.json {
            output::json(&serde_json::json!({ "job": job }));
        } else {
            say!("{job}");
        }
        Ok(())
    }
}
