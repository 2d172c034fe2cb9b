//! `rbee topology`: streams and buckets on the server.

use clap::{Args, Subcommand};
use rbee_nats::Plan;

use crate::{Context, error::CliError, output};

/// Options of `rbee topology`.
#[derive(Debug, Args)]
pub(crate) struct Topology {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print what `rbee topology apply` would change.
    Plan,
    /// Create missing streams and buckets and update existing ones. Nothing is deleted. `up`, `queen` and `hive` do this
    /// when they start.
    Apply,
}

impl Topology {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        let bus = context.bus("cli/topology").await?;
        let plan = Plan::compute(&bus).await?;
        output::print_or_end(format_args!("{plan}"));
        match self.action {
            Action::Plan => Ok(()),
            Action::Apply => Ok(plan.apply(&bus).await?),
        }
    }
}
