//! Readers of the bus that hand what they read to the owner's loop. Each stops when its handle is dropped.

use std::time::Duration;

use rbee_nats::{Bus, BusError, CommandQueue, Entry, IssuedCommand, RegistryWatch};
use rbee_schema::{Failure, HiveName};
use serde::de::DeserializeOwned;
use tokio::{sync::mpsc, time::sleep};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

/// Entries that may wait for the owner. The owner handles one in microseconds; the rest waits on the bus.
const ENTRIES: usize = 64;

/// CommandQueue that may wait while the owner carries one out. The rest waits on the bus, where a restart of the hive finds it.
const COMMANDS: usize = 8;

/// Pause after a failed receive. One attempt per second is few for a server that has trouble.
const PAUSE: Duration = Duration::from_secs(1);

/// Receiver of a reader's messages, and the handle that stops the reader.
pub(super) type Reader<T> = (mpsc::Receiver<T>, AbortOnDropHandle<()>);

/// Reads a watch of the registry in a task of its own. After a lost connection the watch reads all keys again, which takes
/// longer than the owner may be kept waiting.
pub(super) fn entries<T: DeserializeOwned + Send + 'static>(
    mut watch: RegistryWatch<T>,
) -> Reader<Result<Entry<T>, BusError>> {
    let (sender, receiver) = mpsc::channel(ENTRIES);
    let reading = tokio::spawn(async move {
        loop {
            let entry = watch.next().await;
            let is_over = entry.is_err();
            if sender.send(entry).await.is_err() || is_over {
                return;
            }
        }
    });
    (receiver, AbortOnDropHandle::new(reading))
}

/// Receives the commands of a hive in a task of its own.
pub(super) async fn commands(bus: &Bus, hive: &HiveName) -> Result<Reader<Result<IssuedCommand, Failure>>, BusError> {
    let (bus, hive) = (bus.clone(), hive.clone());
    let mut commands = CommandQueue::open(&bus, &hive).await?;
    let (sender, receiver) = mpsc::channel(COMMANDS);
    let receiving = tokio::spawn(async move {
        loop {
            let sent = match commands.next().await {
                Ok(Some(command)) => sender.send(command).await,
                Ok(None) => Ok(()),
                Err(error) => {
                    warn!(%error, "failed to receive commands; retrying");
                    // Timer: pause before the next attempt to receive commands.
                    sleep(PAUSE).await;
                    // The queue may have been deleted: opening it makes it again.
                    if let Ok(opened) = CommandQueue::open(&bus, &hive).await {
                        commands = opened;
                    }
                    Ok(())
                }
            };
            if sent.is_err() {
                return;
            }
        }
    });
    Ok((receiver, AbortOnDropHandle::new(receiving)))
}
