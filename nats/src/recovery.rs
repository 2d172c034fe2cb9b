//! Readers that outlive the server they read from.
//!
//! A server keeps the place of a reader in memory. When it was restarted, or another member of its cluster took over, that
//! place is gone: the reader opens anew where it stopped. The client library does so only after missed heartbeats, and
//! not in every case.

use std::{future::pending, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tracing::warn;

use crate::{Bus, BusError};

/// Between two tries to open anew; doubled with each.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// When a reader opens anew, and when it gives up.
#[derive(Debug)]
pub(crate) struct Recovery {
    online: watch::Receiver<bool>,
    limit: Duration,
    failing_since: Option<Instant>,
    pause: Duration,
}

impl Recovery {
    /// For a reader that was just opened.
    pub(crate) fn new(bus: &Bus) -> Self {
        let mut online = bus.online();
        online.mark_unchanged();
        Self { online, limit: bus.settings().reader, failing_since: None, pause: PAUSE }
    }

    /// Waits until the connection was lost and stands again. May be awaited in a `select!`: dropped while the connection
    /// is away, it begins anew with the change that brings it back.
    pub(crate) async fn interrupted(&mut self) {
        let back = async {
            self.online.changed().await?;
            self.online.wait_for(|online| *online).await.map(drop)
        };
        if back.await.is_err() {
            // The connection is closed for good; the reader itself tells.
            pending::<()>().await;
        }
    }

    /// The reader was opened anew.
    pub(crate) fn succeeded(&mut self) {
        (self.failing_since, self.pause) = (None, PAUSE);
    }

    /// The reader could not be opened anew: waits until it may be tried again.
    ///
    /// # Errors
    /// The given one, when the server has refused it for as long as the settings of the connection say (`reader`). Time in
    /// which the connection is away does not count, nor does that in which the server cannot answer: whoever is cut off
    /// together with one of several servers waits for the others, as long as it takes.
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
        warn!(%error, "trying again");
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}
