//! Trouble of the hive as a whole: a broken GPU, driver or disk makes one worker after the other exit.

use std::{collections::VecDeque, time::Instant};

use crate::decide::rules::Rules;

/// Unexpected exits of the last minute, of all workers.
#[derive(Debug, Clone, Default)]
pub struct Strain {
    exits: VecDeque<Instant>,
}

impl Strain {
    /// Notes an unexpected exit at `now`.
    pub fn exited(&mut self, now: Instant) {
        self.exits.push_back(now);
    }

    /// The reason why load is better placed on other hives, for people; `None` where it is not. `looping` workers are in a
    /// crash loop.
    pub fn verdict(&mut self, looping: usize, now: Instant, Rules { timers, bounds }: &Rules) -> Option<String> {
        let window = timers.degraded_window;
        self.exits.retain(|at| now < *at + window);
        if looping >= bounds.degraded_loops as usize {
            Some(format!("{looping} workers are in a crash loop"))
        } else if self.exits.len() >= bounds.degraded_exits as usize {
            Some(format!("{} workers exited within {window:?}", self.exits.len()))
        } else {
            None
        }
    }

    /// Time at which the verdict may change without a further exit.
    pub fn next_change(&self, Rules { timers, bounds }: &Rules) -> Option<Instant> {
        let is_strained = self.exits.len() >= bounds.degraded_exits as usize;
        self.exits.front().filter(|_| is_strained).map(|at| *at + timers.degraded_window)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::decide::{bounds::Bounds, timers::Timers};

    #[test]
    fn ten_exits_in_a_minute_or_three_crash_loops_degrade_a_hive() {
        let (start, mut strain, rules) = (Instant::now(), Strain::default(), Rules::default());
        for second in 0..9 {
            strain.exited(start + Duration::from_secs(second));
        }
        assert_eq!((strain.verdict(2, start, &rules), strain.next_change(&rules)), (None, None));
        assert_eq!(strain.verdict(3, start, &rules).as_deref(), Some("3 workers are in a crash loop"));
        strain.exited(start + Duration::from_secs(9));
        assert_eq!(strain.verdict(0, start, &rules).as_deref(), Some("10 workers exited within 60s"));
        let over = start + rules.timers.degraded_window;
        assert_eq!(strain.next_change(&rules), Some(over));
        assert_eq!(strain.verdict(0, over, &rules), None);
    }

    #[test]
    fn exits_and_loops_that_degrade_a_hive_are_settings() {
        let rules = Rules {
            timers: Timers { degraded_window: Duration::from_secs(5), ..Timers::default() },
            bounds: Bounds { degraded_exits: 2, degraded_loops: 1, ..Bounds::default() },
        };
        let (start, mut strain) = (Instant::now(), Strain::default());
        assert!(strain.verdict(1, start, &rules).is_some());
        strain.exited(start);
        strain.exited(start);
        assert_eq!(strain.verdict(0, start, &rules).as_deref(), Some("2 workers exited within 5s"));
        assert_eq!(strain.verdict(0, start + Duration::from_secs(5), &rules), None);
    }
}
