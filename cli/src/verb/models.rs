//! `rbee models`: declared models.

use clap::Args;
use rbee_schema::api::{Model, Models as Reply};

use crate::{Setting, outcome::Outcome, show};

/// Options of `rbee models`.
#[derive(Debug, Args)]
pub struct Models {}

impl Models {
    pub(crate) async fn run(self, setting: Setting) -> Result<(), Outcome> {
        let bus = setting.bus("cli/models").await?;
        let models: Reply = bus.ask("models", &()).await?;
        if setting.json {
            show::json(&models);
            return Ok(());
        }
        let header = ["MODEL", "READY", "STARTING", "REPLICAS", "RUNNING", "QUEUED", "REFERENCE"];
        let empty = "no models are declared; declare one with `rbee serve NAME FILE.gguf`";
        show::table(header, models.models.iter().map(row).collect(), empty);
        Ok(())
    }
}

fn row(model: &Model) -> [String; 7] {
    [
        model.name.to_string(),
        model.ready.to_string(),
        model.starting.to_string(),
        format!("{}..{}", model.spec.replicas.min, model.spec.replicas.max),
        model.jobs_running.to_string(),
        model.jobs_queued.to_string(),
        model.spec.reference.to_string(),
    ]
}
