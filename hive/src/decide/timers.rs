//! How long a hive waits for what. Every wait of a worker's life stands here with its reason.

use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

rbee_schema::timers! {
    /// The timers of a hive.
    Timers {
        /// From its start to its first word, which it says before it loads.
        first_word: 20 * SECOND,
        /// A load that reads nothing for this long has stalled.
        load_stall: 30 * SECOND,
        /// A load may take this long, and for each 100 MiB of the model `load_step` longer.
        load_base: MINUTE,
        /// Some 50 MiB/s: what a slow disk reads.
        load_step: 2 * SECOND,
        /// A load never takes longer than this.
        load_most: 15 * MINUTE,
        /// Without a heartbeat for this long a worker is suspect. It beats every second: two may be lost.
        suspect: 3 * SECOND,
        /// Without a heartbeat for this long a worker is gone, although its process is there.
        silent: 10 * SECOND,
        /// With jobs, and without a step of its engine for this long, a worker hangs.
        hang: 30 * SECOND,
        /// How often a worker's health is asked over HTTP; three failures in a row end it.
        health: 5 * SECOND,
        /// How long its jobs may take to end when a worker is drained.
        drain: 30 * SECOND,
        /// How long a queen may take to start others in the place of the workers of a hive that drains.
        evacuate: 30 * SECOND,
        /// From SIGTERM to SIGKILL.
        term: 10 * SECOND,
        /// A process that is there this long after SIGKILL cannot be killed: somebody is told.
        kill: 5 * SECOND,
        /// A run of at least this long is stable: the next exit counts as the first.
        stable: MINUTE,
        /// The first pause before another start; from the second on it is `backoff`, doubled each time.
        first_backoff: SECOND / 10,
        /// See `first_backoff`.
        backoff: SECOND,
        /// The longest pause before another start.
        backoff_most: MINUTE,
        /// Five unstable exits within this long are a crash loop.
        loop_window: 10 * MINUTE,
        /// The first pause of a crash loop; it doubles with each trial that fails.
        trial: 5 * MINUTE,
        /// The longest pause of a crash loop.
        trial_most: 60 * MINUTE,
        /// From the order to stop a hive to the killing of the workers that are left.
        shutdown: 30 * SECOND,
    }
}

impl Timers {
    /// These timers on a machine that is late: what waits for a sign of life waits `factor` times as long.
    pub fn stretched(&self, factor: u32) -> Self {
        Self {
            first_word: self.first_word * factor,
            load_stall: self.load_stall * factor,
            load_base: self.load_base * factor,
            suspect: self.suspect * factor,
            silent: self.silent * factor,
            hang: self.hang * factor,
            ..self.clone()
        }
    }

    /// How long the load of a model of this size may take in all.
    pub fn load(&self, bytes: u64) -> Duration {
        let steps = u32::try_from(bytes / (100 << 20)).unwrap_or(u32::MAX);
        self.load_base.saturating_add(self.load_step.saturating_mul(steps)).min(self.load_most.max(self.load_base))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_may_take_longer_the_larger_the_model_is_up_to_a_limit() {
        let timers = Timers::default();
        for (bytes, seconds) in [(0, 60), (100 << 20, 62), (10 << 30, 264), (1 << 40, 900), (u64::MAX, 900)] {
            assert_eq!(timers.load(bytes), Duration::from_secs(seconds), "{bytes}");
        }
    }

    #[test]
    fn a_late_machine_waits_longer_for_signs_of_life_and_not_for_orders() {
        let timers = Timers::default().stretched(3);
        assert_eq!((timers.silent, timers.hang), (30 * SECOND, 90 * SECOND));
        assert_eq!((timers.term, timers.drain), (Timers::default().term, Timers::default().drain));
    }
}
