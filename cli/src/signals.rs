//! Ctrl-C and SIGTERM: the first signal drains a role, each further signal stops it faster.

use std::future::Future;

use rbee_hive::Urgency;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

use crate::{error::CliError, output};

/// Stream of the signals that ask this process to stop.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Installs handlers for SIGINT and SIGTERM: from now on these signals do not end the process.
    ///
    /// # Errors
    /// The system refused a handler.
    pub(crate) fn listen() -> Result<Self, CliError> {
        let failed = |error| CliError::failed(format!("failed to install a signal handler: {error}"));
        let interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let terminate = signal(SignalKind::terminate()).map_err(failed)?;
        Ok(Self { interrupt, terminate })
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Waits for a graceful stop, or until the next signal cuts it short.
    pub(crate) async fn or_at_once(
        &mut self,
        stop: impl Future<Output = Result<(), CliError>>,
    ) -> Result<(), CliError> {
        tokio::select! {
            stopped = stop => stopped,
            () = self.next() => Err(CliError::interrupted("a second signal cut the graceful stop short")),
        }
    }
}

/// Stops a hive and waits until `ended` completes. Each time `next_signal` completes, the stop becomes more urgent: first
/// drain, then terminate, then kill.
pub(crate) async fn stop_hive<T>(
    stop: &watch::Sender<Option<Urgency>>,
    ended: impl Future<Output = T>,
    mut next_signal: impl AsyncFnMut(),
) -> T {
    tokio::pin!(ended);
    let mut urgency = Urgency::Drain;
    loop {
        stop.send_replace(Some(urgency));
        output::print_line(announcement(urgency));
        let Some(more) = more_urgent(urgency) else { return ended.await };
        tokio::select! {
            biased;
            ended = &mut ended => return ended,
            () = next_signal() => urgency = more,
        }
    }
}

/// The stop mode after another signal; none after the last.
fn more_urgent(urgency: Urgency) -> Option<Urgency> {
    match urgency {
        Urgency::Drain => Some(Urgency::Hurry),
        Urgency::Hurry => Some(Urgency::Kill),
        Urgency::Kill => None,
    }
}

/// Message for the user: what happens now, and what the next Ctrl-C does.
fn announcement(urgency: Urgency) -> &'static str {
    match urgency {
        Urgency::Drain => {
            "the hive stops when its workers have finished their jobs; press Ctrl-C again to return the jobs to the queue \
             at once"
        }
        Urgency::Hurry => "the workers stop now and return their jobs to the queue; press Ctrl-C again to kill them",
        Urgency::Kill => "the workers are killed; their jobs return to the queue",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// Limit of a test that hangs. Nothing in these tests waits for time to pass.
    const LIMIT: Duration = Duration::from_secs(10);

    /// A hive that ends when it is stopped with this urgency.
    async fn ends_at(mut stop: watch::Receiver<Option<Urgency>>, at: Urgency) -> Option<Urgency> {
        *stop.wait_for(|urgency| urgency.is_some_and(|urgency| urgency >= at)).await.expect("the sender lives")
    }

    #[tokio::test]
    async fn each_further_signal_makes_the_stop_more_urgent() {
        for (at, needed) in [(Urgency::Drain, 0), (Urgency::Hurry, 1), (Urgency::Kill, 2)] {
            let (stop, requested) = watch::channel(None);
            let mut sent = 0;
            // Exactly as many signals come as are needed.
            let next_signal = async || {
                if sent == needed {
                    std::future::pending::<()>().await;
                }
                sent += 1;
            };
            let end = timeout(LIMIT, stop_hive(&stop, ends_at(requested, at), next_signal)).await;
            assert_eq!(end, Ok(Some(at)), "{at:?}");
            assert_eq!(sent, needed);
        }
    }

    #[tokio::test]
    async fn a_hive_that_ends_while_draining_is_not_terminated() {
        let (stop, requested) = watch::channel(None);
        let end = stop_hive(&stop, ends_at(requested, Urgency::Drain), async || {}).await;
        assert_eq!((end, *stop.borrow()), (Some(Urgency::Drain), Some(Urgency::Drain)));
    }

    #[test]
    fn announcements_name_the_effect_of_the_next_signal() {
        for urgency in [Urgency::Drain, Urgency::Hurry, Urgency::Kill] {
            assert_eq!(announcement(urgency).contains("Ctrl-C again"), more_urgent(urgency).is_some());
        }
    }
}
