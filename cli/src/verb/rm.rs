//! `rbee rm`: a fetched model file is deleted.

use clap::Args;
use rbee_nats::{Bus, Registry};
use rbee_schema::{Failure, HiveCommand, HiveEvent, HiveName, ModelReference};
use serde_json::json;

use crate::{
    Setting,
    order::{self, Heard, Hives, hub_reference},
    outcome::Outcome,
    show,
};

/// Options of `rbee rm`.
#[derive(Debug, Args)]
pub struct Rm {
    /// Which file: hf:owner/repo[@revision][/file.gguf], as `rbee models --files` lists it.
    #[arg(value_parser = hub_reference, value_name = "REFERENCE")]
    reference: ModelReference,
    #[command(flatten)]
    hives: Hives,
}

impl Rm {
    pub(crate) async fn run(self, setting: Setting) -> Result<(), Outcome> {
        let bus = setting.bus("cli/rm").await?;
        let hives = self.hives.find(&bus).await?;
        let holders = holders(&bus, &self.reference).await?;
        let hives: Vec<HiveName> =
            hives.into_iter().filter(|hive| holders.iter().any(|name| name == hive.as_str())).collect();
        if hives.is_empty() {
            let message = format!("no such hive has {}; `rbee models --files` lists what there is", self.reference);
            return Err(Outcome::failed(message));
        }
        order::all(hives.into_iter().map(|hive| remove(&setting, bus.clone(), hive, self.reference.clone()))).await
    }
}

/// The hives that have it, also those that are away.
async fn holders(bus: &Bus, wanted: &ModelReference) -> Result<Vec<String>, Outcome> {
    let files = Registry::files(bus).all().await?.into_iter().filter(|(_, file)| file.reference == *wanted);
    Ok(files.filter_map(|(key, _)| Some(key.rsplit_once('.')?.0.to_owned())).collect())
}

async fn remove(setting: &Setting, bus: Bus, hive: HiveName, reference: ModelReference) -> Result<(), Outcome> {
    let command = HiveCommand::RemoveFile { reference: reference.clone() };
    let answer = order::give(setting, &bus, &hive, &command, |event| hear(event, &reference)).await?;
    let bytes = answer.map_err(|failure| Outcome::failed(format!("hive {hive}: {failure}")))?;
    if setting.json {
        println!("{}", json!({ "hive": hive, "reference": reference, "bytes": bytes }));
    } else {
        println!("{reference} is gone from {hive}: {} are free again", show::bytes(bytes));
    }
    Ok(())
}

/// What an event of the hive says about the removal: how many bytes are free, or why not. A refusal is ours when it
/// names the file.
fn hear(event: HiveEvent, wanted: &ModelReference) -> Heard<Result<u64, Failure>> {
    if let HiveEvent::FileRemoved { reference, bytes } = &event
        && reference == wanted
    {
        return Heard::Answer(Ok(*bytes));
    }
    if let HiveEvent::Refused { failure } = event
        && failure.message.contains(&wanted.to_string())
    {
        return Heard::Answer(Err(failure));
    }
    Heard::Nothing
}

#[cfg(test)]
mod tests {
    use rbee_schema::FailureCode;

    use super::*;

    #[test]
    fn only_an_answer_about_this_file_is_heard() {
        let wanted = hub_reference("hf:o/r/m.gguf").expect("a reference");
        let removed = |reference: &str| HiveEvent::FileRemoved {
            reference: hub_reference(reference).expect("a reference"),
            bytes: 5,
        };
        assert!(matches!(hear(removed("hf:o/r/n.gguf"), &wanted), Heard::Nothing));
        assert!(matches!(hear(removed("hf:o/r/m.gguf"), &wanted), Heard::Answer(Ok(5))));
        let refused = |message: &str| HiveEvent::Refused { failure: Failure::new(FailureCode::ModelMissing, message) };
        assert!(matches!(hear(refused("hf:o/r/n.gguf is in use"), &wanted), Heard::Nothing));
        assert!(matches!(hear(refused("hf:o/r/m.gguf is in use"), &wanted), Heard::Answer(Err(_))));
    }
}
