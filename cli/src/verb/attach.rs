//! `rbee attach`: the output of a job.

use clap::Args;
use rbee_schema::{JobId, Tenant};

use crate::{
    Context,
    error::CliError,
    job_output::{JobEnd, print_answer},
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
        let mut output = bus.read_output(&self.tenant, &self.job).await?;
        match print_answer(&mut output, &context).await? {
            JobEnd::Done => Ok(()),
            JobEnd::Failed(failure) => Err(CliError::job(&failure)),
        }
    }
}
