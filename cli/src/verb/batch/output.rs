//! The answers of a batch that has ended.

use std::path::Path;

use rbee_nats::{Bus, ObjectError, ObjectRecord};
use rbee_schema::{BatchId, BatchRecord, BatchState};
use tokio::{fs, io::AsyncWriteExt as _};

use crate::{error::CliError, output};

/// Writes the answers to a file, or to standard output. A file has its name only when it is complete.
///
/// # Errors
/// The answers are not stored any more, the file cannot be written, or the bus is away.
pub(super) async fn fetch(bus: &Bus, record: &BatchRecord, file: Option<&Path>) -> Result<(), CliError> {
    let files = bus.batches().files();
    let Some(answers) = files.find(&record.output).await? else {
        return Err(CliError::failed(format!("the answers of the batch are not stored: {}", record.output)));
    };
    match file {
        Some(file) => {
            let failed = |error| CliError::failed(format!("failed to write {}: {error}", file.display()));
            let partial = file.with_added_extension("partial");
            let mut written = fs::File::create(&partial).await.map_err(failed)?;
            let mut pieces = files.reader(&answers);
            while let Some(piece) = pieces.next().await.map_err(unreadable)? {
                written.write_all(&piece).await.map_err(failed)?;
            }
            written.sync_all().await.map_err(failed)?;
            fs::rename(&partial, file).await.map_err(failed)
        }
        None => print(bus, &answers).await,
    }
}

async fn print(bus: &Bus, answers: &ObjectRecord) -> Result<(), CliError> {
    let mut pieces = bus.batches().files().reader(answers);
    while let Some(piece) = pieces.next().await.map_err(unreadable)? {
        output::try_write(&piece).map_err(|error| CliError::unwritten(&error))?;
    }
    Ok(())
}

fn unreadable(error: ObjectError) -> CliError {
    match error {
        ObjectError::Bus(error) => error.into(),
        ObjectError::Missing(_) | ObjectError::Corrupt(_) => CliError::failed(error),
    }
}

/// Prints the end of a batch to standard error.
///
/// # Errors
/// The batch was cancelled or has failed.
pub(super) fn summary(id: &BatchId, record: &BatchRecord) -> Result<(), CliError> {
    let counts = record.counts;
    let done = format!("{} answers and {} errors for {} requests", counts.completed, counts.failed, counts.total);
    match (record.state, &record.failure) {
        (BatchState::Cancelled, _) => Err(CliError::failed(format!("batch {id} was cancelled: {done}"))),
        (BatchState::Failed, Some(failure)) => {
            Err(CliError::failed(format!("batch {id} has failed: {failure}; {done}")))
        }
        _ => {
            eprintln!("rbee: batch {id}: {done}");
            Ok(())
        }
    }
}
