//! `rbee topology`: the streams and buckets on the server.

use clap::{Args, Subcommand};
use rbee_nats::Plan;

use crate::{Setting, outcome::Outcome};

/// Options of `rbee topology`.
#[derive(Debug, Args)]
pub struct Topology {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print what would change.
    Plan,
    /// Make it so. Nothing is ever deleted. `up`, `queen` and `hive` do this by themselves.
    Apply,
}

impl Topology {
    pub(crate) async fn run(self, setting: Setting) -> Result<(), Outcome> {
        let bus = setting.bus("cli/topology").await?;
        let plan = Plan::compute(&bus).await?;
        print!("{plan}");
        match self.action {
            Action::Plan => Ok(()),
            Action::Apply => Ok(plan.apply(&bus).await?),
        }
    }
}
