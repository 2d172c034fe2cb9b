//! `rbee remove`: a model is withdrawn.

use clap::Args;
use rbee_nats::Registry;
use rbee_schema::ModelName;

use crate::{Setting, outcome::Outcome};

/// Options of `rbee remove`.
#[derive(Debug, Args)]
pub struct Remove {
    /// The model's name.
    name: ModelName,
}

impl Remove {
    pub(crate) async fn run(self, setting: Setting) -> Result<(), Outcome> {
        let bus = setting.bus("cli/remove").await?;
        let models = Registry::models(&bus);
        if models.get(self.name.as_str()).await?.is_none() {
            return Err(Outcome::failed(format!("no model `{}` is declared; `rbee models` lists them", self.name)));
        }
        models.remove(self.name.as_str()).await?;
        println!("{} is withdrawn", self.name);
        Ok(())
    }
}
