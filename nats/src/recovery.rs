//! Recovery of readers after a restart of the server.
//!
//! A server keeps the consumer of a reader in memory. After a restart, or when another cluster member took over, the consumer
//! is gone, and the reader reopens at its last position. The client library does so only after missed heartbeats, and not in
//! every case.

use std::{future::pending, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tracing::warn;

use crate::{Bus, BusError};

/// First pause before a reader is reopened. Pauses double. Short, because most interruptions are a restart of some 15 ms.
const PAUSE: Duration = Duration::from_millis(200);
/// Longest pause before a reader is reopened, so that it continues within 2 s after the server's return.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Schedule for reopening a reader, and for giving up.
#[derive(Debug)]
pub(crate) struct Recovery {
    online: watch::Receiver<bool>,
    limit: Duration,
    failing_since: Option<Instant>,
    pause: Duration,
}

impl Recovery {
    /// Schedule of a reader that was just opened.
    pub(crate) fn new(bus: &Bus) -> Self {
        let mut online = bus.online();
        online.mark_unchanged();
        Self { online, limit: bus.settings().reader, failing_since: None, pause: PAUSE }
    }

    /// Waits until the connection was lost and established again. Cancel-safe: if the future is dropped while the connection is
    /// lost, the next call completes when it is back.
    pub(crate) async fn interrupted(&mut self) {
        let back = async {
            self.online.changed().await?;
            self.online.wait_for(|online| *online).await.map(drop)
        };
        if back.await.is_err() {
            // The connection is closed for good, which the reader itself reports.
            pending::<()>().await;
        }
    }

    /// Records that the reader was reopened.
    pub(crate) fn succeeded(&mut self) {
        (self.failing_since, self.pause) = (None, PAUSE);
    }

    /// Records that the reader could not be reopened, and waits until the next attempt.
    ///
    /// # Errors
    /// The given error, if the server has refused the reader for the time of the setting `reader`. Time without a connection
    /// and time in which the server cannot answer do not count: a role that is cut off together with one of several servers
    /// waits for the others without a limit.
    pub(crate) async fn failed(&mut self, error: BusError) -> Result<(), BusError> {
        if !*self.online.borrow() {
            let _ = self.online.wait_for(|online| *online).await;
            self.succeeded();
        }
        if error.is_transient() {
            self.failing_since = None;
        }
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        if since.elapsed() > self.limit {
            self.failing_since = None;
            return Err(error);
        }
        warn!(%error, "reopening a reader failed; retrying");
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}
