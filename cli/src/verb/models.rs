//! `rbee models`: lists declared models, or the model files that hives have fetched.

use clap::Args;
use rbee_nats::{Bus, Registry};
use rbee_schema::{
    FileRecord,
    api::{Model, Models as Reply},
};
use serde_json::json;

use crate::{
    Context,
    error::CliError,
    output::{self, say},
    paging,
};

/// Options of `rbee models`.
#[derive(Debug, Args)]
pub(crate) struct Models {
    /// List the fetched model files of all hives instead.
    #[arg(long)]
    files: bool,
}

impl Models {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        let bus = context.bus("cli/models").await?;
        if self.files {
            return list_files(&bus, context.json).await;
        }
        let models: Reply = paging::fetch_all(&bus).await?;
        if context.json {
            output::json(&models);
            return Ok(());
        }
        let header = ["MODEL", "READY", "STARTING", "REPLICAS", "RUNNING", "QUEUED", "REFERENCE"];
        let empty = "no model is declared; declare one with `rbee serve NAME FILE.gguf`";
        output::table(header, models.models.iter().map(row).collect(), empty);
        for Model { name, failure, .. } in &models.models {
            if let Some(failure) = failure {
                say!("\n{name}: {failure}");
            }
        }
        Ok(())
    }
}

async fn list_files(bus: &Bus, as_json: bool) -> Result<(), CliError> {
    let mut files = Registry::files(bus).all().await?;
    files.sort_by_key(|(key, file)| (file.reference.to_string(), key.clone()));
    if as_json {
        let files: Vec<_> = files.iter().map(|(key, file)| json!({ "hive": hive_of(key), "file": file })).collect();
        output::json(&json!({ "files": files }));
        return Ok(());
    }
    let empty = "no hive has fetched a model file; `rbee pull hf:owner/repo/file.gguf` fetches one";
    let rows = files.iter().map(|(key, file)| file_row(key, file)).collect();
    output::table(["HIVE", "REFERENCE", "SIZE", "SHA256"], rows, empty);
    Ok(())
}

fn file_row(key: &str, file: &FileRecord) -> [String; 4] {
    // People compare the first digits; the JSON has the whole digest.
    let sha256 = file.sha256.get(..16).unwrap_or(&file.sha256);
    [hive_of(key).to_owned(), file.reference.to_string(), output::bytes(file.bytes), sha256.to_owned()]
}

/// The hive in a key of the `files` bucket: `<hive>.<digest>`.
fn hive_of(key: &str) -> &str {
    key.rsplit_once('.').map_or(key, |(hive, _)| hive)
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
