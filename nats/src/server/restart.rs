//! Pauses before a server that has ended is started again. Pure decisions.

use std::time::Duration;

/// Pause before the first restart. A server that was killed is back before anything that waits for it gives up.
const FIRST: Duration = Duration::from_millis(100);

/// Longest pause. A server whose port or disk is taken away is tried again often enough that nobody has to restart rbee.
const LONGEST: Duration = Duration::from_secs(30);

/// Run time after which a server counts as stable, so that its next end is treated as the first one.
const STABLE: Duration = Duration::from_secs(60);

/// Number of ends in a row without a stable run between them.
#[derive(Debug, Default)]
pub(super) struct Restarts(u32);

impl Restarts {
    /// Pause before the next start, after a run of length `ran`. Pauses double.
    pub(super) fn pause(&mut self, ran: Duration) -> Duration {
        self.0 = if ran >= STABLE { 1 } else { self.0.saturating_add(1) };
        FIRST.saturating_mul(1 << (self.0 - 1).min(16)).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restart_pauses_double_until_a_stable_run() {
        let mut restarts = Restarts::default();
        let mut pause = |seconds| restarts.pause(Duration::from_secs(seconds)).as_millis();
        assert_eq!([pause(0), pause(59), pause(0)], [100, 200, 400]);
        for _ in 0..100 {
            pause(0);
        }
        assert_eq!([pause(0), pause(60), pause(0)], [30_000, 100, 200]);
    }
}
