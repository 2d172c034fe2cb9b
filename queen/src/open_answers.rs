//! Answers that this process relays to clients, over HTTP or by request. They have time to end when the process stops.

use std::{future::Future, time::Duration};

use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Answers in progress. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct OpenAnswers {
    tracker: TaskTracker,
    end: CancellationToken,
}

impl OpenAnswers {
    /// Runs a task that relays an answer, or cleans up after one.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }

    /// Completes when the answers must end now.
    pub(crate) async fn must_end(&self) {
        self.end.cancelled().await;
    }

    /// Waits until no answer is open.
    pub(crate) async fn all_ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Ends the answers that are still open, and waits for that, at most for `limit`.
    pub(crate) async fn end(&self, limit: Duration) {
        self.end.cancel();
        // Timer: the process ends soon, whether the answers have ended or not.
        let _ = timeout(limit, self.all_ended()).await;
    }
}
