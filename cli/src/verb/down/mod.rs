//! `rbee down`: stops the whole fleet gracefully.

mod ending;
mod leftover;

use std::time::Duration;

use clap::Args;
use rbee_nats::{EventReader, Registry, Subject};
use rbee_schema::{HiveCommand, QueenControl};
use tokio::time::timeout;

use self::{ending::Ending, leftover::Leftover};
use crate::{Context, error::CliError};

/// Options of `rbee down`.
#[derive(Debug, Args)]
#[command(
    after_help = "Queens stop first, so that nothing replaces the workers that stop. Then all hives stop at once, each \
                        with its workers. A worker has 15 s to finish its jobs; then it returns them to the queue. 30 s \
                        after the start, remaining workers are killed. Queued jobs stay in the queue and run when the \
                        fleet is up again. A server that `rbee up` started stops with it; any other server keeps running."
)]
pub(crate) struct Down {}

/// Time for the server to report what is left, after everything has ended. A server that answers at all takes a few
/// milliseconds; one that `rbee up` started may have stopped by now.
const LEFTOVER_TIMEOUT: Duration = Duration::from_secs(5);

const WHY: &str = "`rbee down` was run";

impl Down {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        let bus = context.bus("cli/down").await?;
        let hives = Registry::hives(&bus).all().await?.into_iter();
        let hives = hives.filter_map(|(key, record)| Some((key.parse().ok()?, record.epoch))).collect();
        let queens = bus.discover_queens(context.connection.discovery).await?.into_iter().collect();
        let mut ending = Ending::new(queens, hives);
        if ending.is_over() {
            let leftover = Leftover::find(&bus).await?;
            return leftover.report(&context, "nothing is running: no queen answers, and no hive is connected");
        }
        // Subscribe before sending, so that no event is missed.
        let mut events = EventReader::since(&bus, &bus.namespace().all_events(), None).await?;
        let mut hive_keys = Registry::hives(&bus).watch(">").await?;
        let hives = std::mem::take(&mut ending.hives);
        bus.publish(&Subject::QueenControl, &QueenControl::Stop { why: WHY.to_owned() }).await?;
        ending.wait(&context, &bus, &mut events, &mut hive_keys).await?;
        ending.hives = hives;
        for (hive, epoch) in &ending.hives {
            let shutdown = HiveCommand::Shutdown { why: WHY.to_owned(), epoch: Some(*epoch) };
            bus.command(hive, &shutdown).await?;
        }
        ending.wait(&context, &bus, &mut events, &mut hive_keys).await?;
        match timeout(LEFTOVER_TIMEOUT, Leftover::find(&bus)).await {
            Ok(leftover) => leftover?.report(&context, "everything has ended"),
            Err(_) => Leftover::default().report(&context, "everything has ended, including the server"),
        }
    }
}
