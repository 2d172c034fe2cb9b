//! Blame for the end of a worker: given to the jobs that it ran if a job can cause such an end.
//!
//! A job cannot cause a kill from elsewhere, a frozen process, a stop on request or the loss of the bus. These blame nobody.

use rbee_schema::{ExitClass, JobInFlight};

/// Signals that a process brings upon itself (signal(7)): SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV and SIGSYS. The
/// hive sends none of them.
const CRASHES: [i32; 7] = [4, 5, 6, 7, 8, 11, 31];

/// Exit codes of sysexits.h for which no job is to blame: invalid model (65), bus unreachable (69), no permission (77),
/// invalid options (78). 0 is no fault.
const INNOCENT_CODES: [i32; 5] = [0, 65, 69, 77, 78];

/// The manner in which a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessEnd {
    /// Class of the exit.
    pub class: ExitClass,
    /// Exit code, if the process exited by itself.
    pub code: Option<i32>,
    /// Number of the signal that ended the process, if one did.
    pub signal: Option<i32>,
}

/// The end of a worker that a job may have caused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blame {
    /// The manner in which the worker ended.
    pub end: ProcessEnd,
    /// Number of jobs that the worker ran, without those that waited for their turn. At least 1.
    pub running: u32,
}

impl Blame {
    /// The blame for the end of a worker with these jobs. `None` if none of them can have caused it.
    pub fn of(end: ProcessEnd, jobs: &[JobInFlight]) -> Option<Self> {
        let running = u32::try_from(jobs.iter().filter(|job| !job.waits).count()).unwrap_or(u32::MAX);
        (running > 0 && end.can_be_caused_by_a_job()).then_some(Self { end, running })
    }

    /// True if the worker ran one job only, which is then known to be the cause.
    pub fn is_of_one(&self) -> bool {
        self.running == 1
    }
}

impl ProcessEnd {
    /// True if a job can cause such an end.
    fn can_be_caused_by_a_job(self) -> bool {
        match self.class {
            ExitClass::Oom | ExitClass::Hang => true,
            ExitClass::ReadyTimeout | ExitClass::Unresponsive => false,
            ExitClass::Clean
            | ExitClass::Signal
            | ExitClass::Data
            | ExitClass::Config
            | ExitClass::Permission
            | ExitClass::Other
            | ExitClass::Unknown => {
                self.signal.is_some_and(|signal| CRASHES.contains(&signal))
                    || self.code.is_some_and(|code| !INNOCENT_CODES.contains(&code))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGABRT: i32 = 6;
    const SIGKILL: i32 = 9;
    const SIGSEGV: i32 = 11;
    const SIGTERM: i32 = 15;

    fn jobs(running: usize, waiting: usize) -> Vec<JobInFlight> {
        let job = |index: usize| JobInFlight {
            tenant: "t".parse().expect("a name"),
            job: "j".parse().expect("a name"),
            ack: index.to_string(),
            waits: index >= running,
            redelivery_ms: None,
        };
        (0..running + waiting).map(job).collect()
    }

    #[test]
    fn jobs_are_blamed_for_ends_that_a_job_can_cause() {
        for (class, code, signal, is_blamed) in [
            (ExitClass::Signal, None, Some(SIGSEGV), true),
            (ExitClass::Signal, None, Some(SIGABRT), true),
            (ExitClass::Clean, None, Some(SIGABRT), true),
            (ExitClass::Other, Some(70), None, true),
            (ExitClass::Other, Some(1), None, true),
            (ExitClass::Oom, None, Some(SIGKILL), true),
            (ExitClass::Hang, None, Some(SIGKILL), true),
            (ExitClass::Signal, None, Some(SIGKILL), false),
            (ExitClass::Signal, None, Some(SIGTERM), false),
            (ExitClass::Unresponsive, None, Some(SIGKILL), false),
            (ExitClass::ReadyTimeout, None, Some(SIGKILL), false),
            (ExitClass::Clean, Some(0), None, false),
            (ExitClass::Other, Some(69), None, false),
            (ExitClass::Config, Some(78), None, false),
            (ExitClass::Data, Some(65), None, false),
            (ExitClass::Permission, Some(77), None, false),
            (ExitClass::Unknown, None, None, false),
        ] {
            let blame = Blame::of(ProcessEnd { class, code, signal }, &jobs(2, 0));
            assert_eq!(blame.is_some(), is_blamed, "{class} {code:?} {signal:?}");
        }
    }

    #[test]
    fn jobs_that_wait_for_their_turn_are_no_company() {
        let end = ProcessEnd { class: ExitClass::Signal, code: None, signal: Some(SIGSEGV) };
        let blame = |running, waiting| Blame::of(end, &jobs(running, waiting));
        assert_eq!(blame(0, 3), None, "nobody ran");
        assert!(blame(1, 3).is_some_and(|blame| blame.is_of_one()));
        assert_eq!(blame(2, 0).map(|blame| blame.running), Some(2));
    }
}
