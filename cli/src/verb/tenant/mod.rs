//! `rbee tenant`: sets, lists and removes the weights and limits of tenants.

mod ls;
mod rm;
mod set;

use clap::{Args, Subcommand};

use crate::{Context, error::CliError};

/// Options of `rbee tenant`.
#[derive(Debug, Args)]
#[command(
    after_help = "A tenant is a token in the subject of a job: rbee.job.MODEL.CLASS.TENANT, or `rbee run --tenant NAME`. \
                        The record of the tenant `default` applies to every tenant without one, to each by itself. Changes \
                        apply at once."
)]
pub(crate) struct Tenant {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Set the weight or limits of a tenant; what is not named stays
    Set(set::Set),
    /// List tenants with their limits and what they use
    Ls(ls::Ls),
    /// Remove the record of a tenant; that of the tenant `default` applies
    Rm(rm::Rm),
}

impl Tenant {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        match self.action {
            Action::Set(verb) => verb.run(context).await,
            Action::Ls(verb) => verb.run(context).await,
            Action::Rm(verb) => verb.run(context).await,
        }
    }
}
