//! `rbee jobs`: lists jobs.

use clap::Args;
use rbee_schema::{
    ModelName, Tenant,
    api::{Job, JobList, Jobs as Page, JobsRequest},
};

use crate::{
    Context,
    error::CliError,
    output::{self, or_dash},
};

/// Options of `rbee jobs`.
#[derive(Debug, Args)]
pub(crate) struct Jobs {
    /// List jobs that have ended within the last hour.
    #[arg(long, conflicts_with = "model")]
    ended: bool,
    /// List dead letters: jobs that were given up.
    #[arg(long, conflicts_with = "ended")]
    dead: bool,
    /// List jobs of this model only.
    #[arg(long, value_name = "NAME")]
    model: Option<ModelName>,
    /// List jobs of this tenant only.
    #[arg(long, value_name = "NAME")]
    tenant: Option<Tenant>,
    /// Print the page after this value, which the previous page printed.
    #[arg(long, value_name = "NEXT")]
    after: Option<String>,
}

impl Jobs {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        let list = match (self.ended, self.dead) {
            (true, _) => JobList::Ended,
            (_, true) => JobList::Dead,
            _ => JobList::Open,
        };
        let request = JobsRequest { list, model: self.model, tenant: self.tenant, after: self.after };
        let bus = context.bus("cli/jobs").await?;
        let page: Page = bus.request("jobs", &request).await?;
        if context.json {
            output::json(&page);
            return Ok(());
        }
        let header = ["JOB", "TENANT", "MODEL", "CLASS", "STATE", "WORKER", "SINCE", "FAILURE"];
        output::table(header, page.jobs.iter().map(row).collect(), "there is no such job");
        if let Some(next) = page.next {
            println!("\nthere are more: add --after {next}");
        }
        Ok(())
    }
}

fn row(job: &Job) -> [String; 8] {
    [
        job.job.to_string(),
        job.tenant.to_string(),
        or_dash(job.model.as_ref()),
        or_dash(job.class),
        job.state.as_str().to_owned(),
        or_dash(job.worker.as_ref()),
        output::timestamp(&job.since),
        or_dash(job.failure.as_ref().map(|failure| failure.code)),
    ]
}
