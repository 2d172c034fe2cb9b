//! Recovery of readers after a restart of the server.
//!
//! A server keeps the consumer of a reader in memory. After a restart, or when another cluster member took over, the consumer
//! is gone, and the reader reopens at its last position. The same is needed when the stream was deleted and is made again. The
//! client library does so only after missed heartbeats, and not in every case.

use std::{future::pending, time::Duration};

use async_nats::Subscriber;
use futures::StreamExt as _;
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
    /// Advisories that the stream was made again.
    created: Option<Subscriber>,
    limit: Duration,
    failing_since: Option<Instant>,
    pause: Duration,
}

impl Recovery {
    /// Schedule of a reader that was just opened.
    pub(crate) fn new(bus: &Bus) -> Self {
        let mut online = bus.online();
        online.mark_unchanged();
        Self { online, created: None, limit: bus.settings().reader, failing_since: None, pause: PAUSE }
    }

    /// Schedule of a reader of this stream, which also reopens when the stream was made again.
    pub(crate) async fn of_stream(bus: &Bus, stream: &str) -> Self {
        Self { created: bus.watch_created_stream(stream).await, ..Self::new(bus) }
    }

    /// Waits until the connection was lost and established again, or the stream was made again. Cancel-safe: if the future is
    /// dropped while the connection is lost, the next call completes when it is back.
    pub(crate) async fn interrupted(&mut self) {
        let back = async {
            self.online.changed().await?;
            self.online.wait_for(|online| *online).await.map(drop)
        };
        let created = async {
            match &mut self.created {
                Some(created) => created.next().await,
                None => None,
            }
        };
        tokio::select! {
            Ok(()) = back => {}
            Some(_) = created => {}
            // The connection is closed for good, which the reader itself reports.
            else => pending().await,
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

/// Repeats an operation while the servers cannot answer, for at most the time of the setting `reader`. For the start of a role: a
/// server that restarts at this moment must not end it.
///
/// # Errors
/// A refusal, or the last error when the time is over.
pub async fn retried<T, Operation>(bus: &Bus, operation: impl Fn() -> Operation) -> Result<T, BusError>
where
    Operation: Future<Output = Result<T, BusError>>,
{
    let begun = Instant::now();
    loop {
        match operation().await {
            Err(error) if error.is_transient() && begun.elapsed() < bus.settings().reader => {
                warn!(%error, "the server does not answer; trying again");
                sleep(LONGEST_PAUSE).await;
            }
            ended => return ended,
        }
    }
}
