//! Waiting for conditions. No test sleeps: it names a condition, and only this file checks it again after a pause.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep, timeout};

/// Time limit for anything that needs no timer to happen. A busy machine stretches milliseconds to seconds; a test that
/// hangs still fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Pause between two checks of a condition. A check is a request to a server on this machine: cheap, but not free.
const PAUSE: Duration = Duration::from_millis(20);

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not hold within `limit`; the message names it as `what`.
pub async fn eventually(what: &str, limit: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + limit;
    loop {
        if timeout(limit, condition()).await.unwrap_or(false) {
            return;
        }
        assert!(Instant::now() < deadline, "after {limit:?} this does not hold: {what}");
        sleep(PAUSE).await;
    }
}

/// Waits for a future.
///
/// # Panics
/// When it is not ready within [`PATIENCE`]; the message names it as `what`.
pub async fn soon<T>(what: &str, coming: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, coming).await {
        Ok(come) => come,
        Err(_) => panic!("after {PATIENCE:?} there is no {what}"),
    }
}

/// Lets a fault last for a time. The only pause without a condition: its duration is part of the fault.
pub async fn hold_fault(fault: Duration) {
    sleep(fault).await;
}
