//! How long a hive waits for what. Every wait of a worker's life stands here with its reason.

use std::time::Duration;

use rbee_schema::{WorkerSettings, check_at_least, check_longer, check_whole_seconds};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

rbee_schema::settings! {
    /// The timers of a hive.
    Timers, each "timer" {
        /// From its start to its first word, which it says before it loads.
        first_word: Duration = 20 * SECOND,
        /// A load that reads nothing for this long has stalled.
        load_stall: Duration = 30 * SECOND,
        /// A load may take this long, and for each 100 MiB of the model `load_step` longer.
        load_base: Duration = MINUTE,
        /// Some 50 MiB/s: what a slow disk reads.
        load_step: Duration = 2 * SECOND,
        /// A load never takes longer than this.
        load_most: Duration = 15 * MINUTE,
        /// Without a heartbeat for this long a worker is suspect. It beats every second: two may be lost.
        suspect: Duration = 3 * SECOND,
        /// Without a heartbeat for this long a worker is gone, although its process is there.
        silent: Duration = 10 * SECOND,
        /// With jobs, and without a step of its engine for this long, a worker hangs.
        hang: Duration = 30 * SECOND,
        /// How often a worker's health is asked over HTTP; `health_failures` in a row end it.
        health: Duration = 5 * SECOND,
        /// How long its jobs may take to end when a worker is drained.
        drain: Duration = 30 * SECOND,
        /// How long a queen may take to start others in the place of the workers of a hive that drains.
        evacuate: Duration = 30 * SECOND,
        /// From SIGTERM to SIGKILL.
        term: Duration = 10 * SECOND,
        /// A process that is there this long after SIGKILL cannot be killed: somebody is told.
        kill: Duration = 5 * SECOND,
        /// A run of at least this long is stable: the next exit counts as the first.
        stable: Duration = MINUTE,
        /// The first pause before another start; from the second on it is `backoff`, doubled each time.
        first_backoff: Duration = SECOND / 10,
        /// See `first_backoff`.
        backoff: Duration = SECOND,
        /// The longest pause before another start.
        backoff_most: Duration = MINUTE,
        /// `loop_exits` unstable exits within this long are a crash loop.
        loop_window: Duration = 10 * MINUTE,
        /// The first pause of a crash loop; it doubles with each trial that fails.
        trial: Duration = 5 * MINUTE,
        /// The longest pause of a crash loop.
        trial_most: Duration = 60 * MINUTE,
        /// From the order to stop a hive to the killing of the workers that are left.
        shutdown: Duration = 30 * SECOND,
        /// How often the hive says that it is there.
        beat: Duration = SECOND,
        /// How often its key in the registry is renewed.
        presence: Duration = 5 * SECOND,
        /// When that key lapses: nobody can renew it while a cluster that has lost a server elects its leaders, which takes
        /// up to 20 s.
        presence_lapse: Duration = 30 * SECOND,
        /// How often leases of ports are renewed and large logs set aside.
        lease_renewal: Duration = MINUTE,
        /// When the lease of a port lapses. It outlives the hive's restart and the grace of its workers, and never a hive
        /// that has vanished.
        port_lease: Duration = 11 * MINUTE,
        /// A port that a program which is none of ours holds is looked at again after this long.
        foreign_port: Duration = 30 * SECOND,
        /// How long a worker may take to answer its health check. It answers within a millisecond.
        probe: Duration = 2 * SECOND,
        /// How long the end of a process may wait for what the worker said last. A round trip takes under a millisecond.
        last_beat: Duration = SECOND / 4,
        /// How long the last events of the hive may take to be stored when it ends.
        final_flush: Duration = 5 * SECOND,
        /// `degraded_exits` unwanted exits within this long are trouble of the hive as a whole.
        degraded_window: Duration = MINUTE,
        /// The first pause before the hub is tried again; each further one is twice as long.
        hub_pause: Duration = SECOND / 2,
        /// The longest pause between two tries.
        hub_pause_most: Duration = MINUTE,
        /// How long a connection to the hub may be silent.
        hub_silence: Duration = 30 * SECOND,
        /// How long another process may hold a model file without a byte more in it. Checking what is there brings none.
        hub_standstill: Duration = 10 * MINUTE,
        /// The logs of workers that are gone are kept for this long.
        log_age: Duration = 7 * DAY,
    }
}

impl Timers {
    /// # Errors
    /// What does not fit together.
    pub fn check(&self) -> Result<(), String> {
        check_at_least(("silent", self.silent), ("suspect", self.suspect))?;
        check_whole_seconds("presence_lapse", self.presence_lapse)?;
        check_longer(("presence_lapse", self.presence_lapse), ("presence", self.presence))?;
        check_whole_seconds("port_lease", self.port_lease)?;
        check_longer(("port_lease", self.port_lease), ("lease_renewal", self.lease_renewal))
    }

    /// The same with what the workers are told.
    ///
    /// # Errors
    /// What does not fit together.
    pub fn check_with(&self, worker: &WorkerSettings) -> Result<(), String> {
        check_longer(("suspect", self.suspect), ("the beat of its workers", worker.beat))?;
        check_longer(("hang", self.hang), ("the beat of its workers", worker.beat))?;
        let grace = worker.grace + self.lease_renewal;
        check_at_least(("port_lease", self.port_lease), ("the grace of its workers and lease_renewal together", grace))
    }

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
    fn timers_that_do_not_fit_each_other_or_the_workers_are_refused() {
        for (wrong, worker, words) in [
            ("silent=2s", "", "`silent=2s`: expected at least as long as suspect, which is 3s"),
            ("presence_lapse=4s", "", "`presence_lapse=4s`: expected longer than presence, which is 5s"),
            ("presence_lapse=5500ms", "", "expected whole seconds"),
            ("port_lease=660500ms", "", "expected whole seconds"),
            ("port_lease=1m", "", "`port_lease=1m`: expected longer than lease_renewal, which is 1m"),
            ("", "beat=3s", "`suspect=3s`: expected longer than the beat of its workers, which is 3s"),
            ("hang=1s", "", "`hang=1s`: expected longer than the beat of its workers, which is 1s"),
            ("", "grace=1h", "`port_lease=11m`: expected at least as long as the grace of its workers"),
        ] {
            let worker: WorkerSettings = worker.parse().expect("right by themselves");
            let checked = wrong.parse::<Timers>().and_then(|timers| timers.check_with(&worker));
            let error = checked.expect_err(wrong);
            assert!(error.contains(words), "{error}");
        }
        let fitting: WorkerSettings = "grace=1h,beat=5s".parse().expect("right");
        let timers: Timers = "suspect=15s,silent=50s,port_lease=61m".parse().expect("right");
        assert_eq!(timers.check_with(&fitting), Ok(()));
        assert_eq!(Timers::default().check_with(&WorkerSettings::default()), Ok(()));
    }

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
