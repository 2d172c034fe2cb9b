//! `rbee submit`: a job that nobody waits for.

use clap::Args;
use rbee_nats::trace::TraceContext;

use crate::{Setting, outcome::Outcome, prompt::PromptOptions, show};

/// Options of `rbee submit`.
#[derive(Debug, Args)]
pub struct Submit {
    #[command(flatten)]
    prompt: PromptOptions,
}

impl Submit {
    pub(crate) async fn run(self, setting: Setting) -> Result<(), Outcome> {
        let submission = self.prompt.submission()?;
        let bus = setting.bus("cli/submit").await?;
        let job = submission.job.clone();
        bus.submit_in(submission, TraceContext::from_env()).await?;
        if setting.json {
            show::json(&serde_json::json!({ "job": job }));
        } else {
            println!("{job}");
        }
        Ok(())
    }
}
