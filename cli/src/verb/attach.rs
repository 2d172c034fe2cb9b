//! `rbee attach`: the output of a job.

use clap::Args;
use rbee_nats::{JobFinder, unknown_job};
use rbee_schema::{JobId, Tenant};

use crate::{
    Context,
    error::CliError,
    job_output::{JobEnd, print_answer},
    waiting::Waiting,
};

/// Options of `rbee attach`.
#[derive(Debug, Args)]
pub(crate) struct Attach {
    /// Id of the job.
    job: JobId,
    /// Tenant that owns the job.
    #[arg(long, default_value = "default", value_name = "NAME")]
    tenant: Tenant,
}

impl Attach {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        let bus = context.bus("cli/attach").await?;
        let Self { job, tenant } = &self;
        let mut output = bus.read_output(tenant, job).await?;
        let has_begun = bus.last_chunk(tenant, job).await?.is_some();
        if !has_begun && JobFinder::start(&bus).find(tenant, job).await?.is_none() {
            return Err(unknown_job(tenant, job).into());
        }
        match print_answer(&mut output, &context, Waiting::default()).await? {
            JobEnd::Done => Ok(()),
            JobEnd::Failed(failure) => Err(CliError::job(&failure)),
            JobEnd::Unwritten(error) => Err(error),
        }
    }
}
