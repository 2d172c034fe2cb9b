//! `rbee apply` and `rbee plan`: the models of a file.

use std::{fs, path::PathBuf};

use clap::Args;
use rbee_nats::{Bus, Registry};

use crate::{
    Setting,
    declare::{self, Change, Declarations},
    outcome::Outcome,
    show,
};

/// Options of `rbee apply`.
#[derive(Debug, Args)]
#[command(after_help = "The file is TOML, with a table for each model, such as\n\n  [models.smollm2]\n  reference = \
                        \"smollm2.gguf\"          # beside the file; also file:/path or hf:owner/repo/file.gguf\n  \
                        replicas = { min = 1, max = 2 }\n  slots = 4\n  idle_timeout = \"10m\"\n\nThe keys are those \
                        of a declaration on the bus: `rbee schema model-spec`. `rbee plan` says what would change.")]
pub struct Apply {
    #[command(flatten)]
    file: File,
}

/// Options of `rbee plan`.
#[derive(Debug, Args)]
pub struct Plan {
    #[command(flatten)]
    file: File,
}

#[derive(Debug, Args)]
struct File {
    /// The file that declares the models.
    #[arg(value_name = "FILE.toml")]
    file: PathBuf,
    /// Withdraw the models that are not in the file.
    #[arg(long)]
    prune: bool,
}

impl Apply {
    pub(crate) async fn run(self, setting: Setting) -> Result<(), Outcome> {
        let wanted = self.file.read()?;
        let bus = setting.bus("cli/apply").await?;
        let changes = self.file.changes(&bus, &wanted).await?;
        let models = Registry::models(&bus);
        for change in &changes {
            match change {
                Change::Declare { model, spec } | Change::Alter { model, spec, .. } => {
                    models.put(model.as_str(), spec).await?;
                }
                Change::Withdraw { model } => models.remove(model.as_str()).await?,
            }
            if !setting.json {
                println!("{change}");
            }
        }
        end(&setting, &changes);
        Ok(())
    }
}

impl Plan {
    pub(crate) async fn run(self, setting: Setting) -> Result<(), Outcome> {
        let wanted = self.file.read()?;
        let bus = setting.bus("cli/plan").await?;
        let changes = self.file.changes(&bus, &wanted).await?;
        if !setting.json {
            changes.iter().for_each(|change| println!("{change}"));
        }
        end(&setting, &changes);
        Ok(())
    }
}

impl File {
    fn read(&self) -> Result<Declarations, Outcome> {
        let wrong = |why: String| Outcome::usage(format!("{}: {why}", self.file.display()));
        let path = std::path::absolute(&self.file).map_err(|error| wrong(error.to_string()))?;
        let text = fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
        let folder = path.parent().unwrap_or(&path);
        declare::read(&text, folder).map_err(|mistakes| wrong(mistakes.replace('\n', "\n  ")))
    }

    async fn changes(&self, bus: &Bus, wanted: &Declarations) -> Result<Vec<Change>, Outcome> {
        let there = Registry::models(bus).all().await?;
        let there = there.into_iter().filter_map(|(name, spec)| Some((name.parse().ok()?, spec))).collect();
        Ok(declare::changes(&there, wanted, self.prune))
    }
}

fn end(setting: &Setting, changes: &[Change]) {
    if setting.json {
        show::json(&serde_json::json!({ "changes": changes }));
    } else if changes.is_empty() {
        println!("nothing changes: every model is declared as the file says");
    }
}
