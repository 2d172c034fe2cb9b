//! The state of a connection, the lines about it in the log (one when it is lost, one when it is back), and the last operation
//! that the server did not permit.

use std::sync::atomic::{AtomicU32, Ordering};

use async_nats::{Event, ServerError};
use tokio::sync::watch;
use tracing::{debug, info, warn};

/// Beginning of the server's error about an operation that it does not permit.
const VIOLATION: &str = "Permissions Violation for ";

/// Receiver of the client's reports about its connection.
#[derive(Debug)]
pub(crate) struct ConnectionLog {
    online: watch::Sender<bool>,
    /// Number of errors since the connection was lost. The client reports several per second while no server answers.
    errors: AtomicU32,
    denied: watch::Sender<Option<Denial>>,
}

/// Operation that the permissions of the user do not allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Subject of the operation.
    pub subject: String,
    /// The error in the server's words.
    pub message: String,
}

impl Denial {
    /// Reads an error of the server: `Permissions Violation for Publish to "SUBJECT"`. `None` for any other error.
    fn read(message: &str) -> Option<Self> {
        let rest = message.strip_prefix(VIOLATION)?;
        let subject = rest.split('"').nth(1)?.to_owned();
        Some(Self { subject, message: message.to_owned() })
    }

    /// True if the operation only makes rbee faster or more certain: the server reports something before it would be noticed.
    fn is_about_an_advisory(&self) -> bool {
        ["$JS.EVENT.", "$SYS.", "sys."].iter().any(|prefix| self.subject.starts_with(prefix))
    }
}

impl ConnectionLog {
    /// Log of a connection that stands. `online` and `denied` are kept up to date.
    pub(crate) fn new(online: watch::Sender<bool>, denied: watch::Sender<Option<Denial>>) -> Self {
        Self { online, errors: AtomicU32::new(0), denied }
    }

    /// Takes a report of the client.
    pub(crate) fn record(&self, event: &Event) {
        match event {
            Event::Connected => {
                if self.becomes(true) {
                    let failed_attempts = self.errors.swap(0, Ordering::Relaxed);
                    info!(failed_attempts, "connected to the bus again");
                }
            }
            Event::Disconnected => {
                if self.becomes(false) {
                    warn!("the connection to the bus was lost; reconnecting");
                }
            }
            // This process closed the connection.
            Event::Draining | Event::Closed => drop(self.becomes(false)),
            Event::ServerError(error) => {
                warn!(%error, "the server reported an error");
                if let ServerError::Other(message) = error
                    && let Some(denial) = Denial::read(message).filter(|denial| !denial.is_about_an_advisory())
                {
                    self.denied.send_replace(Some(denial));
                }
            }
            Event::SlowConsumer(subscription) => {
                warn!(subscription, "messages were dropped because a subscriber is too slow");
            }
            Event::LameDuckMode => info!("the server is shutting down"),
            Event::ClientError(error) if *self.online.borrow() => warn!(%error, "the client reported an error"),
            Event::ClientError(error) => {
                if self.errors.fetch_add(1, Ordering::Relaxed) == 0 {
                    info!(%error, "the first attempt to reconnect failed; further ones are counted");
                } else {
                    debug!(%error, "an attempt to reconnect failed");
                }
            }
        }
    }

    /// Sets the state. Returns true if it has changed.
    fn becomes(&self, now: bool) -> bool {
        self.online.send_if_modified(|before| std::mem::replace(before, now) != now)
    }
}

#[cfg(test)]
mod tests {
    use async_nats::ClientError;

    use super::*;

    #[test]
    fn errors_are_counted_while_the_connection_is_lost() {
        let (sender, online) = watch::channel(true);
        let log = ConnectionLog::new(sender, watch::Sender::new(None));
        let error = || Event::ClientError(ClientError::Other("IO error".to_owned()));
        log.record(&error());
        assert_eq!(log.errors.load(Ordering::Relaxed), 0);
        log.record(&Event::Disconnected);
        assert!(!*online.borrow());
        (0..3).for_each(|_| log.record(&error()));
        assert_eq!(log.errors.load(Ordering::Relaxed), 3);
        log.record(&Event::Connected);
        assert_eq!((*online.borrow(), log.errors.load(Ordering::Relaxed)), (true, 0));
    }

    #[test]
    fn an_operation_that_is_not_permitted_is_kept_unless_it_only_helps() {
        let (sender, denied) = watch::channel(None);
        let log = ConnectionLog::new(watch::Sender::new(true), sender);
        let report = |message: &str| log.record(&Event::ServerError(ServerError::Other(message.to_owned())));
        report("Permissions Violation for Subscription to \"sys.disconnect\"");
        report("slow consumer");
        assert_eq!(*denied.borrow(), None);
        report("Permissions Violation for Publish to \"rbee.api.status\"");
        assert_eq!(denied.borrow().as_ref().map(|denial| denial.subject.as_str()), Some("rbee.api.status"));
    }
}
