//! Options of the model store of a hive.

use std::{
    env,
    path::{Path, PathBuf},
};

use clap::Args;
use rbee_hive::{
    decide::rules::Rules,
    store::{HUB, StoreConfig},
};

use crate::error::CliError;

/// Options of the model store of a hive.
#[derive(Debug, Clone, Args)]
pub(super) struct StoreOptions {
    /// Keep fetched model files here; a cache of the Hugging Face tools works too [default: `models` in the data folder].
    #[arg(long, env = "RBEE_MODELS", hide_env_values = true, value_name = "FOLDER")]
    models: Option<PathBuf>,
    /// Fetch `hf:` references from this hub, with the token in HF_TOKEN.
    #[arg(long, env = "HF_ENDPOINT", hide_env_values = true, default_value = HUB, value_name = "URL")]
    hub: String,
}

impl StoreOptions {
    /// Configuration of the store of a hive that keeps its data in `data`.
    pub(super) fn config(&self, data: &Path, rules: &Rules) -> Result<StoreConfig, CliError> {
        let folder = self.models.clone().unwrap_or_else(|| data.join("models"));
        let folder =
            std::path::absolute(&folder).map_err(|error| CliError::usage(format!("{}: {error}", folder.display())))?;
        // Only from the environment: every user of the machine can read the options of a process.
        let token = env::var("HF_TOKEN").ok().map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
        Ok(StoreConfig { endpoint: self.hub.clone(), token, ..StoreConfig::with_rules(folder, rules) })
    }
}
