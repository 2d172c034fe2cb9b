//! `rbee remove`: withdraws a model.

use clap::Args;
use rbee_nats::Registry;
use rbee_schema::ModelName;

use crate::{Context, error::CliError, output::say};

/// Options of `rbee remove`.
#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// Name of the model.
    name: ModelName,
}

impl Remove {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        let bus = context.bus("cli/remove").await?;
        let models = Registry::models(&bus);
        if models.get(self.name.as_str()).await?.is_none() {
            return Err(CliError::failed(format!("no model `{}` is declared; `rbee models` lists them", self.name)));
        }
        models.remove(self.name.as_str()).await?;
        say!("{} is withdrawn", self.name);
        Ok(())
    }
}
