//! Waiting for conditions. No test sleeps: it says what it waits for, and this is the one place that looks again.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep, timeout};

/// The longest that anything which happens at once may take. A busy machine stretches milliseconds to seconds; a test
/// that really hangs is told all the same.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How soon a condition is looked at again. Conditions are requests to a server on this machine: cheap, and not free.
const PAUSE: Duration = Duration::from_millis(20);

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not within `limit`; the message says `what` was waited for.
pub async fn eventually(what: &str, limit: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + limit;
    loop {
        if timeout(limit, condition()).await.unwrap_or(false) {
            return;
        }
        assert!(Instant::now() < deadline, "after {limit:?} it is still not so that {what}");
        sleep(PAUSE).await;
    }
}

/// Waits for something that comes by itself.
///
/// # Panics
/// When it does not within [`PATIENCE`]; the message says `what` was waited for.
pub async fn soon<T>(what: &str, coming: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, coming).await {
        Ok(come) => come,
        Err(_) => panic!("after {PATIENCE:?} there is still no {what}"),
    }
}

/// Lets a fault last. The only pause that waits for no condition: the time is the fault.
pub async fn lasting(fault: Duration) {
    sleep(fault).await;
}
