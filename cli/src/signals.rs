//! Ctrl-C and SIGTERM: the first stops a role in order, each further one makes it faster.

use std::future::Future;

use rbee_schema::StopMode;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

use crate::{outcome::Outcome, show};

/// Signals to stop, as they come.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Listens from now on: the process is no longer ended by these signals.
    pub(crate) fn listen() -> Result<Self, Outcome> {
        let failed = |error| Outcome::failed(format!("failed to listen for signals: {error}"));
        let interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let terminate = signal(SignalKind::terminate()).map_err(failed)?;
        Ok(Self { interrupt, terminate })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Waits for an end in order, and for no longer than until the next signal.
    pub(crate) async fn or_at_once(&mut self, end: impl Future<Output = Result<(), Outcome>>) -> Result<(), Outcome> {
        tokio::select! {
            ended = end => ended,
            () = self.next() => Err(Outcome::interrupted("told again to stop: what had not ended was left as it was")),
        }
    }
}

/// Stops a hive and waits until it has `ended`; each time that `next_signal` answers, it becomes more urgent.
pub(crate) async fn stop_hive<T>(
    stop: &watch::Sender<Option<StopMode>>,
    ended: impl Future<Output = T>,
    mut next_signal: impl AsyncFnMut(),
) -> T {
    tokio::pin!(ended);
    let mut mode = StopMode::Drain;
    loop {
        stop.send_replace(Some(mode));
        show::say(announcement(mode));
        let Some(more) = stronger(mode) else { return ended.await };
        tokio::select! {
            biased;
            ended = &mut ended => return ended,
            () = next_signal() => mode = more,
        }
    }
}

/// What the next signal asks for.
fn stronger(mode: StopMode) -> Option<StopMode> {
    match mode {
        StopMode::Drain => Some(StopMode::Terminate),
        StopMode::Terminate => Some(StopMode::Kill),
        StopMode::Kill => None,
    }
}

/// What happens now, and what the next Ctrl-C would do.
fn announcement(mode: StopMode) -> &'static str {
    match mode {
        StopMode::Drain => {
            "the hive stops when its workers have finished their jobs; Ctrl-C again hands the jobs over at once"
        }
        StopMode::Terminate => "the workers end now and their jobs go on elsewhere; Ctrl-C again kills the workers",
        StopMode::Kill => "the workers are killed; their jobs go on elsewhere",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// Nothing here takes longer than a moment.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// A hive that ends when it is this urgent.
    async fn ends_at(mut stop: watch::Receiver<Option<StopMode>>, at: StopMode) -> Option<StopMode> {
        *stop.wait_for(|mode| mode.is_some_and(|mode| mode >= at)).await.expect("it is told")
    }

    #[tokio::test]
    async fn each_further_signal_makes_the_end_stronger_until_the_workers_are_killed() {
        for (at, signals) in [(StopMode::Drain, 0), (StopMode::Terminate, 1), (StopMode::Kill, 2)] {
            let (stop, told) = watch::channel(None);
            let mut heard = 0;
            // As many signals as are needed come, and no more.
            let next_signal = async || {
                if heard == signals {
                    std::future::pending::<()>().await;
                }
                heard += 1;
            };
            let end = timeout(PATIENCE, stop_hive(&stop, ends_at(told, at), next_signal)).await;
            assert_eq!(end, Ok(Some(at)), "{at:?}");
            assert_eq!(heard, signals);
        }
    }

    #[tokio::test]
    async fn a_hive_that_ends_in_order_is_not_hurried() {
        let (stop, told) = watch::channel(None);
        let end = stop_hive(&stop, ends_at(told, StopMode::Drain), async || {}).await;
        assert_eq!((end, *stop.borrow()), (Some(StopMode::Drain), Some(StopMode::Drain)));
    }

    #[test]
    fn each_announcement_but_the_last_says_what_the_next_ctrl_c_does() {
        for mode in [StopMode::Drain, StopMode::Terminate, StopMode::Kill] {
            assert_eq!(announcement(mode).contains("Ctrl-C again"), stronger(mode).is_some());
        }
    }
}
