//! `rbee apply` and `rbee plan`: the models that a file declares.

use std::{fs, path::PathBuf};

use clap::Args;
use rbee_nats::{Bus, Registry};

use crate::{
    Context,
    error::CliError,
    models_file::{self, ModelChange, ModelSpecs},
    output,
    output::say,
};

/// Options of `rbee apply`.
#[derive(Debug, Args)]
#[command(after_help = "The file is TOML with a table for each model:\n\n  [models.smollm2]\n  reference = \
                        \"smollm2.gguf\"          # beside the file; also file:/path or hf:owner/repo/file.gguf\n  \
                        replicas = { min = 1, max = 2 }\n  slots = 4\n  idle_timeout = \"10m\"\n\n`rbee schema \
                        model-spec` prints all keys. `rbee plan` prints what would change.")]
pub(crate) struct Apply {
    #[command(flatten)]
    file: ModelsFile,
}

/// Options of `rbee plan`.
#[derive(Debug, Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    file: ModelsFile,
}

#[derive(Debug, Args)]
struct ModelsFile {
    /// File that declares the models.
    #[arg(value_name = "FILE.toml")]
    path: PathBuf,
    /// Withdraw the models that are not in the file.
    #[arg(long)]
    prune: bool,
}

impl Apply {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        let desired = self.file.read()?;
        let bus = context.bus("cli/apply").await?;
        let changes = self.file.diff(&bus, &desired).await?;
        let models = Registry::models(&bus);
        for change in &changes {
            match change {
                ModelChange::Declare { model, spec } | ModelChange::Alter { model, spec, .. } => {
                    models.put(model.as_str(), spec).await?;
                }
                ModelChange::Withdraw { model } => models.remove(model.as_str()).await?,
            }
            if !context.json {
                say!("{change}");
            }
        }
        print_summary(&context, &changes);
        Ok(())
    }
}

impl Plan {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        let desired = self.file.read()?;
        let bus = context.bus("cli/plan").await?;
        let changes = self.file.diff(&bus, &desired).await?;
        if !context.json {
            changes.iter().for_each(|change| say!("{change}"));
        }
        print_summary(&context, &changes);
        Ok(())
    }
}

impl ModelsFile {
    fn read(&self) -> Result<ModelSpecs, CliError> {
        let invalid = |why: String| CliError::usage(format!("{}: {why}", self.path.display()));
        let path = std::path::absolute(&self.path).map_err(|error| invalid(error.to_string()))?;
        let text = fs::read_to_string(&path).map_err(|error| invalid(error.to_string()))?;
        let folder = path.parent().unwrap_or(&path);
        models_file::read(&text, folder).map_err(|mistakes| invalid(mistakes.replace('\n', "\n  ")))
    }

    async fn diff(&self, bus: &Bus, desired: &ModelSpecs) -> Result<Vec<ModelChange>, CliError> {
        let current = Registry::models(bus).all().await?;
        let current = current.into_iter().filter_map(|(name, spec)| Some((name.parse().ok()?, spec))).collect();
        Ok(models_file::diff(&current, desired, self.prune))
    }
}

fn print_summary(context: &Context, changes: &[ModelChange]) {
    if context.json {
        output::json(&serde_json::json!({ "changes": changes }));
    } else if changes.is_empty() {
        say!("no changes: every model is declared as in the file");
    }
}
