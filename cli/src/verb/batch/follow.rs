//! The progress of a batch, until it has ended.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rbee_nats::{Bus, Entry};
use rbee_schema::{BatchId, BatchRecord, BatchState};

use crate::{Context, error::CliError, signals::ClientSignals};

/// Follows a batch to its end. Shows its progress if standard error is a terminal.
///
/// # Errors
/// A signal came, the batch was deleted, or the bus is away.
pub(super) async fn follow(
    bus: &Bus,
    id: &BatchId,
    mut record: BatchRecord,
    context: &Context,
) -> Result<BatchRecord, CliError> {
    let mut signals = ClientSignals::listen()?;
    let mut records = bus.batches().records().watch(id.as_str()).await?;
    let bar = progress_bar(context);
    while !record.state.is_final() {
        show(&bar, &record);
        let entry = tokio::select! {
            entry = records.next() => entry?,
            () = signals.next() => {
                bar.finish_and_clear();
                return Err(CliError::interrupted(format!(
                    "batch {id} runs on: run the command again to follow it, or `rbee batch cancel {id}`"
                )));
            }
        };
        match entry {
            Entry::Set { document, .. } => record = document,
            Entry::Removed(_) => return Err(CliError::failed(format!("batch {id} was deleted"))),
            Entry::Unreadable { error, .. } => return Err(CliError::failed(error)),
            Entry::Synced => {}
        }
    }
    bar.finish_and_clear();
    Ok(record)
}

fn progress_bar(context: &Context) -> ProgressBar {
    let is_shown = std::io::stderr().is_terminal() && !context.json;
    let target = if is_shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let template = "{msg} [{wide_bar}] {pos}/{len} {per_sec} {eta}";
    // The template is a constant and valid; the default bar would do as well.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(0), target).with_style(style.progress_chars("=> "))
}

fn show(bar: &ProgressBar, record: &BatchRecord) {
    let counts = record.counts;
    bar.set_length(counts.total);
    bar.set_position(counts.done());
    bar.set_message(match (record.state, record.cancel, counts.failed) {
        (BatchState::Validating, _, _) => "reading the requests".to_owned(),
        (_, true, _) => "cancelling".to_owned(),
        (_, _, 0) => "running".to_owned(),
        (_, _, failed) => format!("running, {failed} errors"),
    });
}
