//! The ports of this hive: which are free, and the leases of those that are not.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use rbee_nats::{BusError, PortClaim, PortLeases};
use rbee_schema::PortLease;
use tokio::time::sleep;
use tracing::{debug, warn};

use crate::decide::ports::PortBook;

/// Time after which the release of a lease is given up, and the lease expires. A cluster that has lost a server elects its
/// leaders within 20 s; three times that leaves room for a second election.
const RELEASE_LIMIT: Duration = Duration::from_secs(60);

/// Pause between two attempts. One per second is few beside the renewals.
const RELEASE_PAUSE: Duration = Duration::from_secs(1);

/// The hive's view of its ports, and the leases that all hives of the machine share.
pub(super) struct Ports {
    pub(super) book: PortBook,
    pub(super) leases: PortLeases,
}

impl Ports {
    /// Releases a lease, retrying while the servers elect a leader. Returns the revision with which the port can be claimed
    /// again in one round trip, or `None` where the lease is left to expire.
    ///
    /// This is the only way in which a hive releases a lease.
    pub(super) fn release(&self, claim: PortClaim, lease: PortLease) -> impl Future<Output = Option<u64>> + use<> {
        let leases = self.leases.clone();
        async move { retried(RELEASE_PAUSE, claim.port, || leases.release(claim, &lease)).await }
    }
}

/// Repeats `attempt` while it fails for a transient reason, until [`RELEASE_LIMIT`].
async fn retried<Attempt>(pause: Duration, port: u16, attempt: impl Fn() -> Attempt) -> Option<u64>
where
    Attempt: Future<Output = Result<u64, BusError>>,
{
    let deadline = Instant::now() + RELEASE_LIMIT;
    loop {
        match attempt().await {
            Ok(revision) => return Some(revision),
            Err(error) if error.is_transient() && Instant::now() < deadline => {
                debug!(port, %error, "failed to release a lease; retrying");
                // Timer: pause before the next attempt to release the lease.
                sleep(pause).await;
            }
            Err(error) => {
                warn!(port, %error, "failed to release a lease; it will expire");
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Attempts made, and the outcome, where the first `failures` attempts fail for `cause`.
    async fn release(failures: u32, cause: &str) -> (u32, Option<u64>) {
        let attempts = Cell::new(0);
        let released = retried(Duration::from_millis(1), 8080, || {
            attempts.set(attempts.get() + 1);
            let failed = BusError { doing: "release port 8080".to_owned(), cause: cause.to_owned() };
            std::future::ready(if attempts.get() > failures { Ok(7) } else { Err(failed) })
        });
        let revision = released.await;
        (attempts.get(), revision)
    }

    #[tokio::test]
    async fn release_is_retried_while_the_servers_elect_a_leader() {
        assert_eq!(release(0, "").await, (1, Some(7)));
        assert_eq!(release(3, "timed out").await, (4, Some(7)));
    }

    #[tokio::test]
    async fn release_that_the_server_refuses_is_not_retried() {
        assert_eq!(release(1, "permission denied").await, (1, None));
    }
}
