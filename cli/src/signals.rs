//! Ctrl-C and SIGTERM: the first signal drains a role, each further signal stops it faster. A client ends with its job.

use std::future::Future;

use rbee_schema::StopMode;
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

/// Stream of the signals that ask a client to end, also that its terminal is gone.
pub(crate) struct ClientSignals {
    roles: Signals,
    hangup: Signal,
}

impl ClientSignals {
    /// Installs handlers for SIGINT, SIGTERM and SIGHUP: from now on these signals do not end the process.
    ///
    /// # Errors
    /// The system refused a handler.
    pub(crate) fn listen() -> Result<Self, CliError> {
        let failed = |error| CliError::failed(format!("failed to install a signal handler: {error}"));
        Ok(Self { roles: Signals::listen()?, hangup: signal(SignalKind::hangup()).map_err(failed)? })
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            () = self.roles.next() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// Stops a hive and waits until `ended` completes. Each time `next_signal` completes, the stop becomes more urgent: first
/// drain, then terminate, then kill.
pub(crate) async fn stop_hive<T>(
    stop: &watch::Sender<Option<StopMode>>,
    ended: impl Future<Output = T>,
    mut next_signal: impl AsyncFnMut(),
) -> T {
    tokio::pin!(ended);
    let mut mode = StopMode::Drain;
    loop {
        stop.send_replace(Some(mode));
        output::print_line(announcement(mode));
        let Some(more) = stronger(mode) else { return ended.await };
        tokio::select! {
            biased;
            ended = &mut ended => return ended,
            () = next_signal() => mode = more,
        }
    }
}

/// The stop mode after another signal; none after the last.
fn stronger(mode: StopMode) -> Option<StopMode> {
    match mode {
        StopMode::Finish | StopMode::Drain => Some(StopMode::Terminate),
        StopMode::Terminate => Some(StopMode::Kill),
        StopMode::Kill => None,
    }
}

/// Message for the user: what happens now, and what the next Ctrl-C does.
fn announcement(mode: StopMode) -> &'static str {
    match mode {
        StopMode::Finish | StopMode::Drain => {
            "the hive stops when its workers have finished their jobs; press Ctrl-C again to return the jobs to the queue \
             at once"
        }
        StopMode::Terminate => {
            "the workers stop now and return their jobs to the queue; press Ctrl-C again to kill them"
        }
        StopMode::Kill => "the workers are killed; their jobs return to the queue",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// Limit of a test that hangs. Nothing in these tests waits for time to pass.
    const LIMIT: Duration = Duration::from_secs(10);

    /// A hive that ends when it is stopped with this mode.
    async fn ends_at(mut stop: watch::Receiver<Option<StopMode>>, at: StopMode) -> Option<StopMode> {
        *stop.wait_for(|mode| mode.is_some_and(|mode| mode >= at)).await.expect("the sender lives")
    }

    #[tokio::test]
    async fn each_further_signal_makes_the_stop_more_urgent() {
        for (at, needed) in [(StopMode::Drain, 0), (StopMode::Terminate, 1), (StopMode::Kill, 2)] {
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
        let end = stop_hive(&stop, ends_at(requested, StopMode::Drain), async || {}).await;
        assert_eq!((end, *stop.borrow()), (Some(StopMode::Drain), Some(StopMode::Drain)));
    }

    #[test]
    fn announcements_name_the_effect_of_the_next_signal() {
        for mode in [StopMode::Drain, StopMode::Terminate, StopMode::Kill] {
            assert_eq!(announcement(mode).contains("Ctrl-C again"), stronger(mode).is_some());
        }
    }
}
