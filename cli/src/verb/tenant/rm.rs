//! `rbee tenant rm`: removes the record of a tenant.

use clap::Args;
use rbee_nats::Registry;
use rbee_schema::Tenant;

use crate::{Context, error::CliError, output::say};

/// Options of `rbee tenant rm`.
#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// Name of the tenant.
    name: Tenant,
}

impl Rm {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        let bus = context.bus("cli/tenant").await?;
        let tenants = Registry::tenants(&bus);
        if !tenants.exists(self.name.as_str()).await? {
            let message = format!("tenant `{}` has no record; `rbee tenant ls` lists the tenants", self.name);
            return Err(CliError::failed(message));
        }
        tenants.remove(self.name.as_str()).await?;
        say!("the record of {} is removed", self.name);
        Ok(())
    }
}
