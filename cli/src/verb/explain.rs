//! `rbee explain`: the hive that the queen would choose for another worker of a model, and why; or what happened to a job.

use clap::Args;
use rbee_nats::Bus;
use rbee_schema::{
    Failure, FailureCode, JobId, ModelName, Tenant,
    api::{Explanation, JobStory, JobStoryRequest, ModelRequest, PlacementCandidate},
};

use crate::{
    Context,
    error::CliError,
    job_story,
    output::{self, say},
};

/// Options of `rbee explain`.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Name of a model, or id of a job.
    name: JobId,
    /// Explain the job with this id, even if a model has the same name.
    #[arg(long)]
    job: bool,
    /// Tenant that owns the job (default `default`); implies --job.
    #[arg(long, value_name = "NAME")]
    tenant: Option<Tenant>,
}

/// Meaning of a name.
enum Explained {
    Model(Explanation),
    Job(Box<JobStory>),
}

impl Explain {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        let bus = context.bus("cli/explain").await?;
        match (self.find(&bus).await?, context.json) {
            (Explained::Model(explained), true) => output::json(&explained),
            (Explained::Model(explained), false) => print_model(explained),
            (Explained::Job(story), true) => output::json(&story),
            (Explained::Job(story), false) => job_story::print(&story),
        }
        Ok(())
    }

    /// The model of this name, or the job with this id. A model goes first, unless a job is asked for.
    async fn find(self, bus: &Bus) -> Result<Explained, Failure> {
        let is_job = self.job || self.tenant.is_some();
        let request = JobStoryRequest { tenant: self.tenant.unwrap_or_default(), job: self.name };
        let no_model = match request.job.as_str().parse::<ModelName>() {
            Ok(model) if !is_job => match bus.request("explain", &ModelRequest { model }).await {
                Err(failure) if failure.code == FailureCode::UnknownModel => Some(failure),
                explained => return explained.map(Explained::Model),
            },
            _ => None,
        };
        match (bus.request("job", &request).await, no_model) {
            (Err(failure), Some(no_model)) if failure.code == FailureCode::UnknownJob => {
                Err(Failure { message: format!("{}; {}", no_model.message, failure.message), ..no_model })
            }
            (story, _) => story.map(Explained::Job),
        }
    }
}

fn print_model(explained: Explanation) {
    match &explained.hive {
        Some(hive) => {
            say!("another worker of {} would be placed on {hive}: {}\n", explained.model, explained.why);
        }
        None => say!("another worker of {} could not be placed: {}\n", explained.model, explained.why),
    }
    let row = |candidate: PlacementCandidate| {
        let fits = if candidate.fits { "yes" } else { "no" };
        [candidate.hive.to_string(), fits.to_owned(), candidate.why]
    };
    output::table(["HIVE", "SUITED", "WHY"], explained.hives.into_iter().map(row).collect(), "no hive is connected");
}
