//! The standing of a job that ended workers: it is trusted, on probation, or given up.
//!
//! A job that is blamed for the end of a worker runs alone in its next one, until it has got further than where that worker
//! ended. If a worker ends meanwhile, the job is known to be the cause. So a job ends two workers at most, and the jobs that
//! ran beside it are acquitted.

use std::time::Duration;

use rbee_schema::{Chunk, JobBlame, WorkerSettings};

/// Facts about the earlier attempts of a job.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Blame of the job, if it has any.
    pub blame: Option<&'a JobBlame>,
    /// True if anything is stored.
    pub is_begun: bool,
    /// Tokens or inputs that are stored.
    pub made: u32,
    /// Those that were stored when a worker ended for which the job was blamed last.
    pub made_before_blame: u32,
    /// Workers lost while they ran the job, for whatever reason.
    pub lost: u32,
    /// Number of this delivery, from 1.
    pub attempt: u64,
}

/// Standing of a job before an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The job may run together with others.
    Trusted,
    /// The job must run alone until its probation is over.
    OnProbation(Probation),
    /// The job must be given up.
    GivenUp,
}

/// The end of a probation: both must be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probation {
    /// Number of stored tokens or inputs.
    pub until_made: u32,
    /// Time since the attempt began to run.
    pub at_least: Duration,
}

impl Probation {
    /// True if the job may run together with others again.
    pub fn is_over(&self, made: u32, ran_for: Duration) -> bool {
        made >= self.until_made && ran_for >= self.at_least
    }
}

impl Record<'_> {
    /// Standing of the job.
    ///
    /// A job is given up if its worker ended while it ran alone, and another worker ended before while it ran there, alone or
    /// not. Company alone proves nothing, so it only leads to a probation, twice as long each time. A job that ended its
    /// workers unseen, because no blame could be stored, is given up at the limits of the settings.
    pub fn standing(&self, settings: &WorkerSettings) -> Standing {
        if self.lost >= settings.lost_workers || (!self.is_begun && self.attempt > u64::from(settings.attempts)) {
            return Standing::GivenUp;
        }
        let Some(JobBlame { company, alone, together, .. }) = self.blame else { return Standing::Trusted };
        let ends = alone.saturating_add(*together);
        if *company == 0 && ends >= 2 {
            return Standing::GivenUp;
        }
        let tokens = settings.probation_tokens.saturating_mul(1 << ends.saturating_sub(1).min(16));
        let until_made = self.made_before_blame.saturating_add(tokens);
        if self.made >= until_made {
            return Standing::Trusted;
        }
        Standing::OnProbation(Probation { until_made, at_least: settings.probation })
    }
}

/// Number of workers that were lost while they ran a job, read from its output. Each attempt begins with `started` or
/// `resumed`, and a worker that returns the job to the queue ends its attempt with `paused`.
pub fn lost_workers<'a>(chunks: impl Iterator<Item = &'a Chunk>) -> u32 {
    chunks.fold(0, |lost: u32, chunk| match chunk {
        Chunk::Started { .. } | Chunk::Resumed { .. } => lost + 1,
        Chunk::Paused { .. } => lost.saturating_sub(1),
        Chunk::Tokens { .. } | Chunk::Embeddings { .. } | Chunk::Done { .. } | Chunk::Error { .. } => lost,
    })
}

/// Pause before a job returns to the queue whose stored output could not be read in this attempt: without one, it would be
/// delivered again at once, and all its attempts would fail alike.
pub fn retry_pause(attempt: u64, settings: &WorkerSettings) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    settings.retry_pause.saturating_mul(1 << doublings).min(settings.retry_pause_most)
}

#[cfg(test)]
mod tests {
    use rbee_schema::ExitClass;

    use super::*;

    const NEW: Record<'_> = Record { blame: None, is_begun: false, made: 0, made_before_blame: 0, lost: 0, attempt: 1 };

    fn blame(company: u32, alone: u32, together: u32) -> JobBlame {
        JobBlame {
            hive: "h".parse().expect("a name"),
            worker: "w".parse().expect("a name"),
            class: ExitClass::Signal,
            code: None,
            signal: Some(6),
            company,
            alone,
            together,
            last_chunk: 0,
            stderr_tail: Vec::new(),
        }
    }

    /// Stored tokens until which a job with this blame runs alone, where 100 were stored when its worker ended.
    fn probation(company: u32, alone: u32, together: u32) -> Option<u32> {
        let blame = blame(company, alone, together);
        let record = Record { blame: Some(&blame), made: 100, made_before_blame: 100, ..NEW };
        match record.standing(&WorkerSettings::default()) {
            Standing::OnProbation(probation) => Some(probation.until_made),
            Standing::GivenUp => None,
            Standing::Trusted => panic!("a blamed job is trusted"),
        }
    }

    #[test]
    fn second_end_is_proof_only_if_the_job_ran_alone() {
        for (company, alone, together, until) in [
            (7, 0, 1, Some(108)),
            (0, 1, 0, Some(108)),
            (0, 1, 1, None),
            (0, 2, 0, None),
            // However often its neighbours end its workers.
            (7, 0, 2, Some(116)),
            (1, 0, 5, Some(228)),
            (3, 1, 1, Some(116)),
        ] {
            assert_eq!(probation(company, alone, together), until, "{company} {alone} {together}");
        }
    }

    #[test]
    fn job_that_got_further_than_where_its_worker_ended_is_trusted() {
        let (blame, settings) = (blame(3, 0, 1), WorkerSettings::default());
        let standing = |made| Record { blame: Some(&blame), made, made_before_blame: 5, ..NEW }.standing(&settings);
        assert!(matches!(standing(12), Standing::OnProbation(_)));
        assert_eq!(standing(13), Standing::Trusted);
    }

    #[test]
    fn probation_lasts_for_tokens_and_for_a_time() {
        let probation = Probation { until_made: 8, at_least: Duration::from_secs(2) };
        for (made, seconds, is_over) in [(7, 9, false), (8, 1, false), (8, 2, true)] {
            assert_eq!(probation.is_over(made, Duration::from_secs(seconds)), is_over, "{made} {seconds}");
        }
    }

    #[test]
    fn job_whose_workers_end_unseen_is_given_up_at_the_limits() {
        let settings = WorkerSettings { lost_workers: 2, attempts: 4, ..WorkerSettings::default() };
        for (lost, attempt, standing) in [
            (1, 100, Standing::Trusted),
            (2, 3, Standing::GivenUp),
            (0, 4, Standing::Trusted),
            (0, 5, Standing::GivenUp),
        ] {
            assert_eq!(
                Record { lost, is_begun: lost > 0, attempt, ..NEW }.standing(&settings),
                standing,
                "{lost} {attempt}"
            );
        }
    }

    #[test]
    fn pause_before_a_retry_grows_with_the_attempt() {
        let settings = WorkerSettings::default();
        for (attempt, seconds) in [(1, 1), (2, 2), (4, 8), (7, 60), (u64::MAX, 60)] {
            assert_eq!(retry_pause(attempt, &settings), Duration::from_secs(seconds), "{attempt}");
        }
    }

    fn resumed() -> Chunk {
        Chunk::Resumed {
            hive: "h".parse().expect("a name"),
            worker: "w".parse().expect("a name"),
            attempt: 2,
            index: 0,
        }
    }

    #[test]
    fn paused_attempt_is_not_a_strike() {
        let paused = || Chunk::Paused { index: 3 };
        for (chunks, lost) in [
            (vec![], 0),
            (vec![resumed()], 1),
            (vec![resumed(), resumed()], 2),
            (vec![resumed(), paused(), resumed(), paused()], 0),
            (vec![resumed(), paused(), resumed(), resumed(), resumed()], 3),
        ] {
            assert_eq!(lost_workers(chunks.iter()), lost, "{chunks:?}");
        }
    }
}
