//! Whether a whole hive is in trouble: a dead card, driver or disk ends one worker after the other.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// This many workers in a crash loop are no accident.
const LOOPING: usize = 3;

/// As are this many unwanted exits within [`WINDOW`].
const EXITS: usize = 10;
const WINDOW: Duration = Duration::from_secs(60);

/// The unwanted exits of the last minute, of all workers.
#[derive(Debug, Clone, Default)]
pub struct Strain {
    exits: VecDeque<Instant>,
}

impl Strain {
    /// A worker ended that was wanted.
    pub fn exited(&mut self, now: Instant) {
        self.exits.push_back(now);
    }

    /// Why load is better placed elsewhere, in words, where it is; `looping` workers are in a crash loop.
    pub fn verdict(&mut self, looping: usize, now: Instant) -> Option<String> {
        self.exits.retain(|at| now < *at + WINDOW);
        if looping >= LOOPING {
            Some(format!("{looping} workers are in a crash loop"))
        } else if self.exits.len() >= EXITS {
            Some(format!("{} workers ended within {WINDOW:?}", self.exits.len()))
        } else {
            None
        }
    }

    /// When the verdict may become another by itself.
    pub fn next_look(&self) -> Option<Instant> {
        (self.exits.len() >= EXITS).then(|| self.exits.front().map(|at| *at + WINDOW)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_exits_in_a_minute_or_three_loops_are_strain_and_pass() {
        let (start, mut strain) = (Instant::now(), Strain::default());
        for second in 0..9 {
            strain.exited(start + Duration::from_secs(second));
        }
        assert_eq!((strain.verdict(2, start), strain.next_look()), (None, None));
        assert_eq!(strain.verdict(3, start).as_deref(), Some("3 workers are in a crash loop"));
        strain.exited(start + Duration::from_secs(9));
        assert_eq!(strain.verdict(0, start).as_deref(), Some("10 workers ended within 60s"));
        assert_eq!(strain.next_look(), Some(start + WINDOW));
        assert_eq!(strain.verdict(0, start + WINDOW), None);
    }
}
