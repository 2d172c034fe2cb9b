//! Orders to hives: a command, and the event that answers it.

use std::time::Duration;

use clap::Args;
use futures::future::join_all;
use rbee_nats::{Bus, EventReader, Registry, Subject};
use rbee_schema::{HiveCommand, HiveEvent, HiveName, ModelReference};
use tokio::time::{Instant, timeout_at};

use crate::{Setting, outcome::Outcome};

/// How long a hive may be silent about an order. While it works on one it speaks more often.
const SILENCE: Duration = Duration::from_secs(60);

/// Which hives an order is for.
#[derive(Debug, Args)]
pub(crate) struct Hives {
    /// Only this hive; default: every hive that is there.
    #[arg(long, value_name = "NAME")]
    hive: Option<HiveName>,
}

/// What an event says about an order.
pub(crate) enum Heard<T> {
    /// Nothing: it is about something else.
    Nothing,
    /// It is being carried out.
    Progress,
    /// It is carried out, or it failed.
    Answer(T),
}

impl Hives {
    /// The hives that are there and meant.
    pub(crate) async fn find(&self, bus: &Bus) -> Result<Vec<HiveName>, Outcome> {
        let there = Registry::hives(bus).all().await?;
        let there: Vec<HiveName> = there.iter().filter_map(|(key, _)| key.parse().ok()).collect();
        match &self.hive {
            _ if there.is_empty() => {
                Err(Outcome::failed("no hive is connected; start one with `rbee hive --nats URL`"))
            }
            Some(hive) if !there.contains(hive) => {
                let names: Vec<&str> = there.iter().map(HiveName::as_str).collect();
                Err(Outcome::failed(format!("hive {hive} is not connected; these are: {}", names.join(", "))))
            }
            Some(hive) => Ok(vec![hive.clone()]),
            None => Ok(there),
        }
    }
}

/// Gives a hive an order and follows it to its answer.
pub(crate) async fn give<T>(
    setting: &Setting,
    bus: &Bus,
    hive: &HiveName,
    command: &HiveCommand,
    mut hear: impl FnMut(HiveEvent) -> Heard<T>,
) -> Result<T, Outcome> {
    // Listening first: the answer may come before the command is known to be stored.
    let mut events =
        EventReader::since(bus, &bus.subject(&Subject::HiveEvent(hive.clone(), "*".to_owned())), None).await?;
    bus.command(hive, command).await?;
    let patience = setting.patience(SILENCE);
    let mut deadline = Instant::now() + patience;
    loop {
        let Ok(event) = timeout_at(deadline, events.next()).await else {
            return Err(Outcome::unavailable(format!(
                "hive {hive} was silent for {patience:?} (--patience): it may be gone, or stuck; `rbee hives` and \
                 `rbee events --since 5m` tell more"
            )));
        };
        // What cannot be read comes from a newer hive and is about something that we do not know.
        let Some(Ok(event)) = event?.map(|record| serde_json::from_slice(&record.body)) else { continue };
        match hear(event) {
            Heard::Nothing => {}
            Heard::Progress => deadline = Instant::now() + patience,
            Heard::Answer(answer) => return Ok(answer),
        }
    }
}

/// Follows the orders of several hives at once; where some fail, says so for each.
pub(crate) async fn all(orders: impl IntoIterator<Item: Future<Output = Result<(), Outcome>>>) -> Result<(), Outcome> {
    let failed: Vec<Outcome> = join_all(orders).await.into_iter().filter_map(Result::err).collect();
    match failed.as_slice() {
        [] => Ok(()),
        [only] => Err(only.clone()),
        several => {
            let messages: Vec<&str> = several.iter().map(Outcome::message).collect();
            Err(Outcome::failed(messages.join("\nrbee: ")))
        }
    }
}

/// Reads a reference to a file on the hub.
pub(crate) fn hub_reference(text: &str) -> Result<ModelReference, String> {
    match text.parse() {
        Ok(reference @ ModelReference::Hub(_)) => Ok(reference),
        Ok(ModelReference::File(_) | ModelReference::Mock(_)) => {
            Err(format!("`{text}` is not on the hub: expected hf:owner/repo[@revision][/file.gguf]"))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_on_the_hub_is_fetched() {
        assert!(hub_reference("hf:o/r/m.gguf").is_ok());
        for wrong in ["file:/m.gguf", "mock:", "o/r", "hf:o"] {
            let error = hub_reference(wrong).expect_err(wrong);
            assert!(error.contains("hf:owner/repo"), "{error}");
        }
    }

    #[tokio::test]
    async fn every_failure_of_several_hives_is_told() {
        let orders = [Ok(()), Err(Outcome::failed("one")), Err(Outcome::failed("two"))];
        let told = all(orders.map(|outcome| async move { outcome })).await.expect_err("two failed");
        assert!(told.message().contains("one") && told.message().contains("two"), "{}", told.message());
        assert_eq!(all([async { Ok(()) }]).await, Ok(()));
    }
}
