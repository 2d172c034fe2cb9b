//! Timeouts and intervals of a hive, each with its reason.

use std::time::Duration;

use rbee_schema::{StopMode, WorkerSettings, check_at_least, check_longer, check_whole_seconds};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

rbee_schema::settings! {
    /// Timers of a hive.
    Timers, each "timer" {
        /// Time from the start of a worker process to its first message, which it sends before it loads. Processes start in
        /// milliseconds; a machine with a busy disk needs seconds.
        first_word: Duration = 20 * SECOND,
        /// A load without progress for this long has stalled. A disk that wakes up or retries needs up to 20 s.
        load_stall: Duration = 30 * SECOND,
        /// Longest load of a small model. `load_step` is added for each 100 MiB.
        load_base: Duration = MINUTE,
        /// Time added to `load_base` for each 100 MiB of a model: 50 MiB/s, which a slow disk reads.
        load_step: Duration = 2 * SECOND,
        /// Longest load of any model: a larger one should be on a faster disk.
        load_most: Duration = 15 * MINUTE,
        /// Time without a heartbeat after which a worker is suspect. Workers send one per second, so two may be lost.
        suspect: Duration = 3 * SECOND,
        /// Time without a heartbeat after which a worker is killed. Its jobs wait that long, and a worker of a busy machine
        /// has time to recover.
        silent: Duration = 10 * SECOND,
        /// A worker that has jobs and computes nothing for this long is killed, and its jobs continue on another worker. The
        /// slowest step of a large model on a slow machine takes a few seconds.
        hang: Duration = 30 * SECOND,
        /// Interval of health checks over HTTP. After `health_failures` failures in a row a worker is killed.
        health: Duration = 5 * SECOND,
        /// Time that a worker has to finish its jobs when it drains, as before a restart. Most answers are complete within it;
        /// the others continue on another worker.
        drain: Duration = 30 * SECOND,
        /// Time for a worker to finish its jobs whose model was withdrawn: no other worker would continue them. Longer answers
        /// than this lose their beginning by the age of the output.
        finish: Duration = 60 * MINUTE,
        /// Time for the leading queen to replace the workers of a draining hive: as long as it takes to load a model of some GB.
        evacuate: Duration = 30 * SECOND,
        /// Time from SIGTERM to SIGKILL. A worker returns its jobs within a second; the rest is for a slow bus.
        term: Duration = 10 * SECOND,
        /// Time after SIGKILL after which a process counts as unkillable, which is published. The kernel frees its memory
        /// first: about 65 ms for each GiB.
        kill: Duration = 5 * SECOND,
        /// Length of a stable run: the next exit counts as the first.
        stable: Duration = MINUTE,
        /// Pause before the first restart: a single crash costs next to nothing. From the second on the pause is `backoff`,
        /// doubled each time.
        first_backoff: Duration = SECOND / 10,
        /// Pause before the second restart in a row; it doubles with each further one.
        backoff: Duration = SECOND,
        /// Longest pause before a restart.
        backoff_most: Duration = MINUTE,
        /// `loop_exits` unstable exits within this time are a crash loop.
        loop_window: Duration = 10 * MINUTE,
        /// Pause before the first retry of a crash loop; it doubles with each retry that fails. A person has had time to react.
        trial: Duration = 5 * MINUTE,
        /// Longest pause between two retries of a crash loop.
        trial_most: Duration = 60 * MINUTE,
        /// Time from the request to stop a hive until the workers that are left are killed.
        shutdown: Duration = 30 * SECOND,
        /// Interval of the hive's heartbeats. The queen calls a hive suspect after three that are missing.
        beat: Duration = SECOND,
        /// Interval at which the hive's record in the registry is renewed: six times before it expires.
        presence: Duration = 5 * SECOND,
        /// Time after which the hive's record expires. While a cluster that has lost a server elects its leaders, which takes
        /// up to 20 s, nobody can renew it.
        presence_lapse: Duration = 30 * SECOND,
        /// Interval at which leases of ports are renewed and large logs rotated: ten renewals fit into a lease.
        lease_renewal: Duration = MINUTE,
        /// Time after which the lease of a port expires. A lease outlives a restart of the hive and the grace of its workers,
        /// and frees the port of a hive that has vanished.
        port_lease: Duration = 11 * MINUTE,
        /// Time after which a port held by a program outside of rbee is tried again.
        foreign_port: Duration = 30 * SECOND,
        /// Time for a worker to answer a health check. It answers within a millisecond; the rest is for a busy machine.
        probe: Duration = 2 * SECOND,
        /// Longest wait for a worker's last heartbeat after its exit. A round trip to the server takes under a millisecond;
        /// jobs return to the queue after it.
        last_beat: Duration = SECOND / 4,
        /// Longest time for which a job that is blamed for the end of its worker waits until that is stored. It takes two round
        /// trips to the server; without it the job would run in company again.
        blame: Duration = SECOND / 2,
        /// Time for the last events of a stopping hive to be stored.
        final_flush: Duration = 5 * SECOND,
        /// `degraded_exits` unexpected exits within this time make the hive degraded.
        degraded_window: Duration = MINUTE,
        /// Pause before the first retry of a request to the hub; it doubles with each further one.
        hub_pause: Duration = SECOND / 2,
        /// Longest pause between two requests to the hub.
        hub_pause_most: Duration = MINUTE,
        /// Time without a byte from the hub after which a connection counts as lost.
        hub_silence: Duration = 30 * SECOND,
        /// Time without progress after which a fetch gives up waiting for another process that holds the file. That process
        /// makes no visible progress while it checks what it has, which takes minutes for a large file.
        hub_standstill: Duration = 10 * MINUTE,
        /// Time for which the logs of removed workers are kept.
        log_age: Duration = 7 * DAY,
    }
}

impl Timers {
    /// Time for a worker to finish its jobs in this stop mode.
    pub fn time_to_finish(&self, mode: StopMode) -> Duration {
        match mode {
            StopMode::Finish => self.finish,
            StopMode::Drain => self.drain,
            StopMode::Terminate | StopMode::Kill => Duration::ZERO,
        }
    }

    /// Checks that the timers fit each other.
    ///
    /// # Errors
    /// The timer that does not fit, and the value that is needed.
    pub fn check(&self) -> Result<(), String> {
        check_at_least(("silent", self.silent), ("suspect", self.suspect))?;
        check_whole_seconds("presence_lapse", self.presence_lapse)?;
        check_longer(("presence_lapse", self.presence_lapse), ("presence", self.presence))?;
        check_whole_seconds("port_lease", self.port_lease)?;
        check_longer(("port_lease", self.port_lease), ("lease_renewal", self.lease_renewal))
    }

    /// Checks that the timers fit the settings of the workers.
    ///
    /// # Errors
    /// The timer that does not fit, and the value that is needed.
    pub fn check_with(&self, worker: &WorkerSettings) -> Result<(), String> {
        check_longer(("suspect", self.suspect), ("the heartbeat interval of its workers", worker.beat))?;
        check_longer(("hang", self.hang), ("the heartbeat interval of its workers", worker.beat))?;
        let grace = worker.grace + self.lease_renewal;
        check_at_least(("port_lease", self.port_lease), ("the grace of its workers and lease_renewal together", grace))
    }

    /// These timers on a machine that is late: timeouts for signs of life are `factor` times as long.
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

    /// Longest load of a model of this size.
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
        for (wrong, worker, text) in [
            ("silent=2s", "", "`silent=2s`: expected at least as long as suspect, which is 3s"),
            ("presence_lapse=4s", "", "`presence_lapse=4s`: expected longer than presence, which is 5s"),
            ("presence_lapse=5500ms", "", "expected whole seconds"),
            ("port_lease=660500ms", "", "expected whole seconds"),
            ("port_lease=1m", "", "`port_lease=1m`: expected longer than lease_renewal, which is 1m"),
            ("", "beat=3s", "`suspect=3s`: expected longer than the heartbeat interval of its workers, which is 3s"),
            ("hang=1s", "", "`hang=1s`: expected longer than the heartbeat interval of its workers, which is 1s"),
            ("", "grace=1h", "`port_lease=11m`: expected at least as long as the grace of its workers"),
        ] {
            let worker: WorkerSettings = worker.parse().expect("valid on their own");
            let checked = wrong.parse::<Timers>().and_then(|timers| timers.check_with(&worker));
            let error = checked.expect_err(wrong);
            assert!(error.contains(text), "{error}");
        }
        let fitting: WorkerSettings = "grace=1h,beat=5s".parse().expect("valid");
        let timers: Timers = "suspect=15s,silent=50s,port_lease=61m".parse().expect("valid");
        assert_eq!(timers.check_with(&fitting), Ok(()));
        assert_eq!(Timers::default().check_with(&WorkerSettings::default()), Ok(()));
    }

    #[test]
    fn larger_models_may_load_longer_up_to_a_limit() {
        let timers = Timers::default();
        for (bytes, seconds) in [(0, 60), (100 << 20, 62), (10 << 30, 264), (1 << 40, 900), (u64::MAX, 900)] {
            assert_eq!(timers.load(bytes), Duration::from_secs(seconds), "{bytes}");
        }
    }

    #[test]
    fn late_machine_stretches_timeouts_for_signs_of_life_only() {
        let timers = Timers::default().stretched(3);
        assert_eq!((timers.silent, timers.hang), (30 * SECOND, 90 * SECOND));
        assert_eq!((timers.term, timers.drain), (Timers::default().term, Timers::default().drain));
    }
}
