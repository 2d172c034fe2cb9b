//! The clock of a process, which may run faster than time.

use std::time::{Duration, Instant};

/// Clock of a process.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Time at which the rate was set, by true time and by this clock.
    set: (Instant, Instant),
    /// Seconds of this clock per second.
    rate: f64,
}

impl Clock {
    /// A clock that shows the true time.
    pub fn new(now: Instant) -> Self {
        Self { set: (now, now), rate: 1.0 }
    }

    /// Time that this clock shows at the true time `now`.
    pub fn read(&self, now: Instant) -> Instant {
        let (truly, shown) = self.set;
        shown + self.scaled(now.saturating_duration_since(truly), self.rate)
    }

    /// True time at which this clock shows `shown`.
    pub fn when(&self, shown: Instant) -> Instant {
        let (truly, begun) = self.set;
        // Rounded up, so that a timer that fires is due.
        truly + self.scaled(shown.saturating_duration_since(begun), 1.0 / self.rate) + self.rounding()
    }

    /// Lets the clock run at another rate from `now` on.
    pub fn run_at(&mut self, rate: f64, now: Instant) {
        *self = Self { set: (now, self.read(now)), rate };
    }

    fn is_exact(&self) -> bool {
        (self.rate - 1.0).abs() < f64::EPSILON
    }

    fn scaled(&self, duration: Duration, rate: f64) -> Duration {
        if self.is_exact() { duration } else { duration.mul_f64(rate) }
    }

    fn rounding(&self) -> Duration {
        if self.is_exact() { Duration::ZERO } else { Duration::from_micros(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fast_clock_reaches_a_time_early() {
        let now = Instant::now();
        let mut clock = Clock::new(now);
        clock.run_at(4.0, now + Duration::from_secs(1));
        assert_eq!(clock.read(now + Duration::from_secs(2)), now + Duration::from_secs(5));
        let when = clock.when(now + Duration::from_secs(9));
        assert!(clock.read(when) >= now + Duration::from_secs(9) && when < now + Duration::from_millis(3001));
    }
}
