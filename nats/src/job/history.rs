//! History of a job: its events, read by their subject. The cost does not depend on the number of other events.

use std::time::SystemTime;

use rbee_schema::{HiveName, JobEvent, JobId, JobRun, RunEnd, Tenant, WorkerName};

use crate::{Bus, BusError, batch::Position, time::rfc3339};

/// Number of events of a job that are read, the oldest first. A job has two for each attempt, and few attempts.
const MOST: usize = 400;

/// Events of a job, oldest first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct JobHistory {
    /// The events.
    pub events: Vec<StoredJobEvent>,
    /// True if there are more events than were read.
    pub is_cut: bool,
}

/// Stored event of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredJobEvent {
    /// The event.
    pub event: JobEvent,
    /// Time at which the server stored it.
    pub stored: SystemTime,
}

impl Bus {
    /// Events of a job.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn job_history(&self, tenant: &Tenant, job: &JobId) -> Result<JobHistory, BusError> {
        let filter = self.namespace().events_of_job(tenant, job);
        let batch = self.read_batch("events", &filter, Position::Sequence(1), MOST).await?;
        let is_cut = batch.last().is_some_and(|last| last.pending > 0);
        // An event that this version does not know is skipped.
        let event = |payload: &[u8]| serde_json::from_slice(payload).ok();
        let events = batch
            .iter()
            .filter_map(|message| Some(StoredJobEvent { event: event(&message.payload)?, stored: message.stored }));
        Ok(JobHistory { events: events.collect(), is_cut })
    }
}

impl JobHistory {
    /// The same without the events before `time`: those of an earlier job that had the same id.
    #[must_use]
    pub fn since(mut self, time: SystemTime) -> Self {
        self.events.retain(|event| event.stored >= time);
        self
    }

    /// True if the job, a dead letter, was submitted again.
    pub fn is_retried(&self) -> bool {
        self.events.iter().any(|stored| matches!(stored.event, JobEvent::Retried { .. }))
    }

    /// Runs of the job, oldest first. A worker that crashes may not have published that it started: its run begins with its end.
    pub fn runs(&self) -> Vec<JobRun> {
        let (mut runs, mut blamed) = (Vec::new(), Vec::new());
        for StoredJobEvent { event, stored } in &self.events {
            let at = rfc3339(*stored);
            match event {
                JobEvent::Started { hive, worker, attempt, index, .. } => runs.push(JobRun {
                    attempt: Some(*attempt),
                    index: Some(*index),
                    started: Some(at),
                    ..run(hive, worker)
                }),
                JobEvent::Paused { hive, worker, .. } => end_in(&mut runs, (hive, worker), RunEnd::Paused, at),
                JobEvent::Blamed(blame) => {
                    end_in(&mut runs, (&blame.hive, &blame.worker), RunEnd::Blamed, at);
                    blamed.push((&blame.hive, &blame.worker));
                }
                // The return of a blamed job tells nothing new.
                JobEvent::Returned { hive, worker } => match blamed.iter().position(|by| *by == (hive, worker)) {
                    Some(known) => drop(blamed.remove(known)),
                    None => end_in(&mut runs, (hive, worker), RunEnd::Lost, at),
                },
                JobEvent::Finished { .. } => end_last(&mut runs, RunEnd::Finished, at),
                JobEvent::Failed { .. } => end_last(&mut runs, RunEnd::Failed, at),
                JobEvent::Retried { .. } | JobEvent::Resubmitted { .. } => {}
            }
        }
        if let Some((_, earlier)) = runs.split_last_mut() {
            for run in earlier.iter_mut().filter(|run| run.end.is_none()) {
                run.end = Some(RunEnd::Lost);
            }
        }
        runs
    }
}

fn run(hive: &HiveName, worker: &WorkerName) -> JobRun {
    let (hive, worker) = (hive.clone(), worker.clone());
    JobRun { hive, worker, attempt: None, index: None, started: None, ended: None, end: None }
}

/// Ends the earliest run in a worker that has not ended.
fn end_in(runs: &mut Vec<JobRun>, (hive, worker): (&HiveName, &WorkerName), end: RunEnd, at: String) {
    let open = runs.iter_mut().find(|run| run.end.is_none() && run.hive == *hive && run.worker == *worker);
    let (end, ended) = (Some(end), Some(at));
    match open {
        Some(run) => (run.end, run.ended) = (end, ended),
        None => runs.push(JobRun { end, ended, ..run(hive, worker) }),
    }
}

/// Ends the last run, unless it has ended.
fn end_last(runs: &mut [JobRun], end: RunEnd, at: String) {
    if let Some(run) = runs.last_mut().filter(|run| run.end.is_none()) {
        (run.end, run.ended) = (Some(end), Some(at));
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use rbee_schema::{ExitClass, FinishReason, JobBlame, Usage};

    use super::*;

    fn history(events: Vec<JobEvent>) -> JobHistory {
        let stored = |(second, event)| StoredJobEvent { event, stored: UNIX_EPOCH + Duration::from_secs(second) };
        JobHistory { events: (0..).zip(events).map(stored).collect(), is_cut: false }
    }

    fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
        text.parse().expect("a name")
    }

    fn started(worker: &str, attempt: u64) -> JobEvent {
        JobEvent::Started { hive: name("h"), worker: name(worker), attempt, index: 0, submitted: None }
    }

    fn returned(worker: &str) -> JobEvent {
        JobEvent::Returned { hive: name("h"), worker: name(worker) }
    }

    fn blamed(worker: &str) -> JobEvent {
        JobEvent::Blamed(JobBlame {
            hive: name("h"),
            worker: name(worker),
            class: ExitClass::Signal,
            code: None,
            signal: Some(6),
            company: 0,
            alone: 1,
            together: 0,
            last_chunk: 0,
            stderr_tail: Vec::new(),
        })
    }

    fn finished() -> JobEvent {
        JobEvent::Finished { finish_reason: FinishReason::Stop, usage: Usage::new(1, 1), duration_ms: 1 }
    }

    /// Worker, attempt and end of each run.
    fn check(events: Vec<JobEvent>, expected: &[(&str, Option<u64>, Option<RunEnd>)]) {
        let runs = history(events).runs();
        let found: Vec<_> = runs.iter().map(|run| (run.worker.as_str(), run.attempt, run.end)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn each_run_ends_as_its_events_say() {
        use RunEnd::{Blamed, Finished, Lost, Paused};
        let paused =
            |worker| JobEvent::Paused { hive: name("h"), worker: name(worker), index: 3, why: "it stops".to_owned() };
        check(vec![started("a", 1)], &[("a", Some(1), None)]);
        check(
            vec![started("a", 1), returned("a"), started("b", 2), paused("b"), started("a", 3), finished()],
            &[("a", Some(1), Some(Lost)), ("b", Some(2), Some(Paused)), ("a", Some(3), Some(Finished))],
        );
        check(
            vec![started("a", 1), blamed("a"), returned("a"), started("a", 2), blamed("a"), returned("a")],
            &[("a", Some(1), Some(Blamed)), ("a", Some(2), Some(Blamed))],
        );
    }

    #[test]
    fn worker_that_crashed_before_it_said_that_it_started_has_a_run() {
        let blamed_run = ("a", None, Some(RunEnd::Blamed));
        check(vec![blamed("a"), returned("a"), blamed("a")], &[blamed_run, blamed_run]);
    }

    #[test]
    fn late_event_of_a_hive_ends_the_earlier_run() {
        check(
            vec![started("a", 1), started("b", 2), returned("a"), finished()],
            &[("a", Some(1), Some(RunEnd::Lost)), ("b", Some(2), Some(RunEnd::Finished))],
        );
        // The hive is gone, and nobody published the return.
        check(vec![started("a", 1), started("b", 2)], &[("a", Some(1), Some(RunEnd::Lost)), ("b", Some(2), None)]);
    }
}
