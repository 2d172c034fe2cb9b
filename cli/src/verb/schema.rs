//! `rbee schema`: machine-readable descriptions of the messages on the bus.

use std::{fs, path::PathBuf};

use clap::Args;
use rbee_nats::asyncapi;
use rbee_schema::documents;

use crate::{
    Context,
    error::CliError,
    help,
    output::{print_or_end, say},
};

/// Options of `rbee schema`.
#[derive(Debug, Args)]
pub(crate) struct Schema {
    /// Name of a document; `asyncapi` has all subjects and messages. Without a name, list the names.
    name: Option<String>,
    /// Write every document to this folder instead.
    #[arg(long, value_name = "FOLDER", conflicts_with = "name")]
    write: Option<PathBuf>,
}

impl Schema {
    pub(crate) fn run(self, context: &Context) -> Result<(), CliError> {
        let files = documents_with_help(help::render(context.command.clone()));
        if let Some(folder) = self.write {
            for (name, text) in &files {
                let file = folder.join(name);
                let failed = |error| CliError::failed(format!("failed to write {}: {error}", file.display()));
                fs::create_dir_all(&folder).map_err(failed)?;
                fs::write(&file, text).map_err(failed)?;
            }
            return Ok(());
        }
        let Some(name) = self.name else {
            files.iter().for_each(|(name, _)| say!("{}", stem(name)));
            return Ok(());
        };
        let found = files.iter().find(|(file, _)| stem(file) == name);
        let (_, text) =
            found.ok_or_else(|| CliError::usage(format!("unknown document `{name}`; `rbee schema` lists them")))?;
        print_or_end(format_args!("{text}"));
        Ok(())
    }
}

fn stem(file: &str) -> &str {
    file.split('.').next().unwrap_or(file)
}

/// Every schema, and the help of the command line, as name and text.
pub(crate) fn documents_with_help(help: String) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = documents()
        .into_iter()
        .map(|document| {
            let json = serde_json::to_string_pretty(&document.schema).unwrap_or_default();
            (format!("{}.json", document.name), json + "\n")
        })
        .collect();
    files.push(("asyncapi.yaml".to_owned(), serde_yaml_ng::to_string(&asyncapi::document()).unwrap_or_default()));
    files.push(("cli.txt".to_owned(), help));
    files
}
