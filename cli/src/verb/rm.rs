//! `rbee rm`: hives delete a fetched model file.

use clap::Args;
use rbee_nats::{Bus, Registry};
use rbee_schema::{Failure, HiveCommand, HiveEvent, HiveName, ModelReference, parse_hub_reference};
use serde_json::json;

use crate::{
    Context,
    error::CliError,
    hive_command::{HiveSelection, Reply, join_all_reporting, request},
    output,
    output::say,
};

/// Options of `rbee rm`.
#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// File as listed by `rbee models --files`: hf:owner/repo[@revision][/file.gguf].
    #[arg(value_parser = parse_hub_reference, value_name = "REFERENCE")]
    reference: ModelReference,
    #[command(flatten)]
    hives: HiveSelection,
}

impl Rm {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        let bus = context.bus("cli/rm").await?;
        let hives = self.hives.find(&bus).await?;
        let holders = holders(&bus, &self.reference).await?;
        let hives: Vec<HiveName> =
            hives.into_iter().filter(|hive| holders.iter().any(|name| name == hive.as_str())).collect();
        if hives.is_empty() {
            let message = format!("none of these hives has {}; `rbee models --files` lists the files", self.reference);
            return Err(CliError::failed(message));
        }
        let requests = hives.into_iter().map(|hive| remove(&context, bus.clone(), hive, self.reference.clone()));
        join_all_reporting(requests).await
    }
}

/// Names of the hives that have the file, connected or not.
async fn holders(bus: &Bus, wanted: &ModelReference) -> Result<Vec<String>, CliError> {
    let files = Registry::files(bus).all().await?.into_iter().filter(|(_, file)| file.reference == *wanted);
    Ok(files.filter_map(|(key, _)| Some(key.rsplit_once('.')?.0.to_owned())).collect())
}

async fn remove(context: &Context, bus: Bus, hive: HiveName, reference: ModelReference) -> Result<(), CliError> {
    let command = HiveCommand::RemoveFile { reference: reference.clone() };
    let answer = request(context, &bus, &hive, &command, |event| classify(event, &reference)).await?;
    let bytes =
        answer.map_err(|failure| CliError::failed(format!("hive {hive} did not delete {reference}: {failure}")))?;
    if context.json {
        say!("{}", json!({ "hive": hive, "reference": reference, "bytes": bytes }));
    } else {
        say!("{reference} is deleted from {hive}: {} freed", output::bytes(bytes));
    }
    Ok(())
}

/// Effect of a hive's event on the removal of the file `wanted`. The answer is the number of freed bytes, or the refusal. A
/// refusal belongs to this command if its message names the file.
fn classify(event: HiveEvent, wanted: &ModelReference) -> Reply<Result<u64, Failure>> {
    match event {
        HiveEvent::FileRemoved { reference, bytes } if reference == *wanted => Reply::Answer(Ok(bytes)),
        HiveEvent::Refused { failure } if failure.message.contains(&wanted.to_string()) => Reply::Answer(Err(failure)),
        _ => Reply::Unrelated,
    }
}

#[cfg(test)]
mod tests {
    use rbee_schema::FailureCode;

    use super::*;

    #[test]
    fn only_events_of_the_requested_file_count() {
        let wanted = parse_hub_reference("hf:o/r/m.gguf").expect("a reference");
        let removed = |reference: &str| HiveEvent::FileRemoved {
            reference: parse_hub_reference(reference).expect("a reference"),
            bytes: 5,
        };
        assert!(matches!(classify(removed("hf:o/r/n.gguf"), &wanted), Reply::Unrelated));
        assert!(matches!(classify(removed("hf:o/r/m.gguf"), &wanted), Reply::Answer(Ok(5))));
        let refused = |message: &str| HiveEvent::Refused { failure: Failure::new(FailureCode::ModelMissing, message) };
        assert!(matches!(classify(refused("hf:o/r/n.gguf is in use"), &wanted), Reply::Unrelated));
        assert!(matches!(classify(refused("hf:o/r/m.gguf is in use"), &wanted), Reply::Answer(Err(_))));
    }
}
