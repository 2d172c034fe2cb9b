//! `rbee retry`: submits dead letters again.

use clap::Args;
use rbee_nats::Bus;
use rbee_schema::{
    FailureCode, JobId, ModelName, Tenant,
    api::{self, JobList, Jobs, JobsRequest, RetryReply},
};

use crate::{
    Context,
    error::CliError,
    output::{self, say},
};

/// Options of `rbee retry`.
#[derive(Debug, Args)]
#[command(
    after_help = "A retry is a new job with an id of its own, because the output of the old one ends with its failure. The dead \
                        letter is removed when the new job is stored."
)]
pub(crate) struct Retry {
    /// Id of the job that was given up.
    #[arg(required_unless_present = "model")]
    job: Option<JobId>,
    /// Tenant that owns the job; with --model: retry dead letters of this tenant only.
    #[arg(long, value_name = "NAME")]
    tenant: Option<Tenant>,
    /// Retry the oldest dead letter of this model.
    #[arg(long, value_name = "NAME", conflicts_with = "job")]
    model: Option<ModelName>,
    /// Retry all dead letters of the model.
    #[arg(long, requires = "model")]
    all: bool,
}

impl Retry {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        let bus = context.bus("cli/retry").await?;
        if let Some(job) = self.job {
            let retried = retry(&bus, self.tenant.unwrap_or_default(), job).await?;
            if context.json {
                output::json(&retried);
            } else {
                say!("{}", line(&retried));
            }
            return Ok(());
        }
        let letters = dead_letters(&bus, &self).await?;
        let (mut retried, mut failed) = (Vec::new(), 0);
        for (tenant, job) in letters {
            match retry(&bus, tenant, job).await {
                Ok(reply) => {
                    if !context.json {
                        say!("{}", line(&reply));
                    }
                    retried.push(reply);
                }
                // Somebody else was faster.
                Err(failure) if failure.code == FailureCode::UnknownJob => {}
                Err(failure) if failure.code == FailureCode::TimedOut => return Err(failure.into()),
                Err(failure) => {
                    eprintln!("rbee: {failure}");
                    failed += 1;
                }
            }
        }
        if context.json {
            output::json(&serde_json::json!({ "retried": retried }));
        } else if retried.is_empty() && failed == 0 {
            say!("there is no such dead letter");
        }
        if failed > 0 {
            return Err(CliError::failed(format!("{failed} dead letters could not be retried, and are kept")));
        }
        Ok(())
    }
}

async fn retry(bus: &Bus, tenant: Tenant, job: JobId) -> Result<RetryReply, rbee_schema::Failure> {
    bus.request("retry", &api::Retry { tenant, job }).await
}

/// Tenants and ids of the dead letters to be retried. All of them are listed first: a job that is given up again meanwhile is not
/// retried twice.
async fn dead_letters(bus: &Bus, Retry { model, tenant, all, .. }: &Retry) -> Result<Vec<(Tenant, JobId)>, CliError> {
    let (mut letters, mut after) = (Vec::new(), None);
    loop {
        let request =
            JobsRequest { list: JobList::Dead, model: model.clone(), tenant: tenant.clone(), after: after.take() };
        let Jobs { jobs, next } = bus.request("jobs", &request).await?;
        letters.extend(jobs.into_iter().map(|job| (job.tenant, job.job)));
        if !all {
            letters.truncate(1);
        }
        match next {
            Some(next) if *all || letters.is_empty() => after = Some(next),
            _ => return Ok(letters),
        }
    }
}

fn line(RetryReply { tenant, job, retried_as }: &RetryReply) -> String {
    let of_tenant = if *tenant == Tenant::default() { String::new() } else { format!(" --tenant {tenant}") };
    format!("job {job} is submitted again as {retried_as}; `rbee attach {retried_as}{of_tenant}` prints its answer")
}
