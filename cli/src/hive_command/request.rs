//! Sends a command to a hive and waits for the one event that answers it.

use futures::future::join_all;
use rbee_nats::{Bus, EventReader, Subject};
use rbee_schema::{HiveCommand, HiveEvent, HiveName};
use tokio::time::{Instant, timeout_at};

use super::patience::PATIENCE;
use crate::{Context, error::CliError};

/// Effect of an event on a request.
pub(crate) enum Reply<T> {
    /// The event concerns something else.
    Unrelated,
    /// The hive is still working on the request.
    Progress,
    /// The hive has done it, or has failed.
    Answer(T),
}

/// Sends a command to a hive and returns its answer. `classify` finds the answer among the hive's events.
///
/// # Errors
/// The hive reports neither progress nor an answer for `--patience`, or the bus is away.
pub(crate) async fn request<T>(
    context: &Context,
    bus: &Bus,
    hive: &HiveName,
    command: &HiveCommand,
    mut classify: impl FnMut(HiveEvent) -> Reply<T>,
) -> Result<T, CliError> {
    // Subscribe before sending: the answer may arrive before the command is confirmed as stored.
    let mut events =
        EventReader::since(bus, &bus.subject(&Subject::HiveEvent(hive.clone(), "*".to_owned())), None).await?;
    bus.command(hive, command).await?;
    let patience = context.patience(PATIENCE);
    let mut deadline = Instant::now() + patience;
    loop {
        let Ok(event) = timeout_at(deadline, events.next()).await else {
            return Err(CliError::unavailable(format!(
                "hive {hive} sent no answer for {patience:?} (--patience): it may have ended or be stuck; `rbee hives` \
                 lists the connected hives, `rbee events --since 5m` the recent events"
            )));
        };
        // An event that this version cannot parse comes from a newer hive and answers no command of this version.
        let Some(Ok(event)) = event?.map(|record| serde_json::from_slice(&record.body)) else { continue };
        match classify(event) {
            Reply::Unrelated => {}
            Reply::Progress => deadline = Instant::now() + patience,
            Reply::Answer(answer) => return Ok(answer),
        }
    }
}

/// Runs requests to several hives at once.
///
/// # Errors
/// The error of the hive that failed; with several, the messages of all, a line for each.
pub(crate) async fn join_all_reporting(
    requests: impl IntoIterator<Item: Future<Output = Result<(), CliError>>>,
) -> Result<(), CliError> {
    let failed: Vec<CliError> = join_all(requests).await.into_iter().filter_map(Result::err).collect();
    match failed.as_slice() {
        [] => Ok(()),
        [only] => Err(only.clone()),
        several => {
            let messages: Vec<&str> = several.iter().map(CliError::message).collect();
            Err(CliError::failed(messages.join("\nrbee: ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_failure_of_every_hive_is_reported() {
        let results = [Ok(()), Err(CliError::failed("one")), Err(CliError::failed("two"))];
        let error = join_all_reporting(results.map(|result| async move { result })).await.expect_err("two failed");
        assert_eq!(error, CliError::failed("one\nrbee: two"));
        assert_eq!(join_all_reporting([async { Ok(()) }]).await, Ok(()));
        let only = CliError::unavailable("only");
        assert_eq!(join_all_reporting([async { Err(only.clone()) }]).await, Err(only.clone()));
    }
}
