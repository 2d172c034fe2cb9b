//! `rbee models`: declared models, and the files that hives have fetched.

use clap::Args;
use rbee_nats::{Bus, Registry};
use rbee_schema::{
    FileRecord,
    api::{Model, Models as Reply},
};
use serde_json::json;

use crate::{Setting, listing, outcome::Outcome, show};

/// Options of `rbee models`.
#[derive(Debug, Args)]
pub struct Models {
    /// List the model files that hives have fetched instead.
    #[arg(long)]
    files: bool,
}

impl Models {
    pub(crate) async fn run(self, setting: Setting) -> Result<(), Outcome> {
        let bus = setting.bus("cli/models").await?;
        if self.files {
            return files(&bus, setting.json).await;
        }
        let models: Reply = listing::all(&bus).await?;
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

async fn files(bus: &Bus, as_json: bool) -> Result<(), Outcome> {
    let mut files = Registry::files(bus).all().await?;
    files.sort_by_key(|(key, file)| (file.reference.to_string(), key.clone()));
    if as_json {
        let files: Vec<_> = files.iter().map(|(key, file)| json!({ "hive": hive_of(key), "file": file })).collect();
        show::json(&json!({ "files": files }));
        return Ok(());
    }
    let empty = "no hive has fetched a model file; `rbee pull hf:owner/repo/file.gguf` fetches one";
    let rows = files.iter().map(|(key, file)| file_row(key, file)).collect();
    show::table(["HIVE", "REFERENCE", "SIZE", "SHA256"], rows, empty);
    Ok(())
}

fn file_row(key: &str, file: &FileRecord) -> [String; 4] {
    // As much of the digest as people compare; all of it is in the JSON.
    let sha256 = file.sha256.get(..16).unwrap_or(&file.sha256);
    [hive_of(key).to_owned(), file.reference.to_string(), show::bytes(file.bytes), sha256.to_owned()]
}

/// The hive in a key of the bucket of files: `<hive>.<digest>`.
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
