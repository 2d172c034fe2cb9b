//! `rbee jobs`: lists jobs.

use std::time::Duration;

use clap::Args;
use rbee_schema::{
    DeadJob, ModelName, Tenant,
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
        let none = "there is no such job";
        match list {
            JobList::Open => {
                let header =
                    ["JOB", "TENANT", "MODEL", "CLASS", "STATE", "AHEAD", "WAIT", "WORKER", "SINCE", "FAILURE"];
                output::table(header, page.jobs.iter().map(open).collect(), none);
            }
            JobList::Ended => {
                output::table(["JOB", "TENANT", "SINCE", "FAILURE"], page.jobs.iter().map(ended).collect(), none);
            }
            JobList::Dead => {
                let header = ["JOB", "TENANT", "MODEL", "ATTEMPTS", "EXIT", "WORKER", "SINCE", "FAILURE"];
                output::table(header, page.jobs.iter().map(dead).collect(), none);
            }
        }
        if let Some(next) = page.next {
            println!("\nthere are more: add --after {next}");
        }
        Ok(())
    }
}

fn open(job: &Job) -> [String; 10] {
    let wait = job.position.and_then(|position| position.expected_wait_ms).map(Duration::from_millis);
    [
        job.job.to_string(),
        job.tenant.to_string(),
        or_dash(job.model.as_ref()),
        or_dash(job.class),
        job.state.as_str().to_owned(),
        or_dash(job.position.map(|position| position.ahead)),
        or_dash(wait.map(output::seconds)),
        or_dash(job.worker.as_ref()),
        output::timestamp(&job.since),
        failure(job),
    ]
}

fn ended(job: &Job) -> [String; 4] {
    [job.job.to_string(), job.tenant.to_string(), output::timestamp(&job.since), failure(job)]
}

fn dead(job: &Job) -> [String; 8] {
    let letter = job.dead.as_deref();
    let last_run = letter.and_then(|letter: &DeadJob| letter.runs.last());
    let exit = letter.and_then(|letter| letter.exit.as_ref());
    [
        job.job.to_string(),
        job.tenant.to_string(),
        or_dash(job.model.as_ref()),
        or_dash(letter.map(|letter| letter.attempts)),
        or_dash(exit.map(output::describe_exit)),
        or_dash(last_run.map(|run| format!("{}/{}", run.hive, run.worker))),
        output::timestamp(&job.since),
        failure(job),
    ]
}

fn failure(job: &Job) -> String {
    or_dash(job.failure.as_ref().map(|failure| failure.code))
}
