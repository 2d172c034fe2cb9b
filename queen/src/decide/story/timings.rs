//! Durations of a job.

use std::time::{Duration, SystemTime};

use rbee_schema::api::JobTimings;

/// Times of a job by the server's clock, and its numbers of tokens, as far as they are known.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Milestones {
    /// The queue stored the job.
    pub queued: Option<SystemTime>,
    /// The first worker began the answer.
    pub begun: Option<SystemTime>,
    /// The first tokens or vectors were stored.
    pub first_output: Option<SystemTime>,
    /// The last chunk was stored.
    pub last_output: Option<SystemTime>,
    /// The job ended.
    pub ended: Option<SystemTime>,
    /// Tokens of the prompt, or of all inputs.
    pub prompt_tokens: Option<u32>,
    /// Tokens or inputs that are answered.
    pub answered: Option<u32>,
}

/// Durations between the milestones. Those that are not over last until `now`.
pub fn timings(milestones: &Milestones, now: SystemTime) -> JobTimings {
    let Milestones { queued, begun, first_output, last_output, ended, prompt_tokens, answered } = *milestones;
    let since_queued = |until: SystemTime| until.duration_since(queued?).ok().map(millis);
    let answering = first_output.zip(last_output).and_then(|(first, last)| last.duration_since(first).ok());
    let per_second = answered.zip(answering.filter(|answering| !answering.is_zero()));
    JobTimings {
        wait_ms: since_queued(begun.or(ended).unwrap_or(now)),
        first_output_ms: first_output.and_then(since_queued),
        total_ms: since_queued(ended.unwrap_or(now)),
        prompt_tokens,
        answered,
        per_second: per_second.map(|(answered, answering)| rounded(f64::from(answered) / answering.as_secs_f64())),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A rate for people: one decimal place.
fn rounded(rate: f64) -> f64 {
    (rate * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn at(seconds: u64) -> Option<SystemTime> {
        Some(UNIX_EPOCH + Duration::from_secs(seconds))
    }

    #[test]
    fn durations_begin_when_the_job_was_queued() {
        let milestones = Milestones {
            queued: at(10),
            begun: at(12),
            first_output: at(13),
            last_output: at(17),
            ended: at(18),
            prompt_tokens: Some(9),
            answered: Some(40),
        };
        let expected = JobTimings {
            wait_ms: Some(2_000),
            first_output_ms: Some(3_000),
            total_ms: Some(8_000),
            prompt_tokens: Some(9),
            answered: Some(40),
            per_second: Some(10.0),
        };
        assert_eq!(timings(&milestones, UNIX_EPOCH + Duration::from_secs(99)), expected);
    }

    #[test]
    fn wait_of_a_job_lasts_until_now_or_until_it_was_refused() {
        let waiting = Milestones { queued: at(10), ..Milestones::default() };
        let waited = |milestones: &Milestones| timings(milestones, UNIX_EPOCH + Duration::from_secs(15)).wait_ms;
        assert_eq!(waited(&waiting), Some(5_000));
        assert_eq!(waited(&Milestones { ended: at(11), ..waiting }), Some(1_000));
        assert_eq!(waited(&Milestones::default()), None);
    }
}
