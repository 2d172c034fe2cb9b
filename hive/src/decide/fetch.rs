//! Requests to the hub: the meaning of a refusal, when to retry, and when to report progress.

use std::time::{Duration, Instant};

use rbee_schema::{Failure, FailureCode, HubFile};

use super::rules::Rules;

/// Shortest interval between two reports of progress: enough for a bar that moves, and few enough for the bus.
const PACE: Duration = Duration::from_millis(100);

/// Limits of the retries of a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryLimits {
    /// Number of requests in a row that may fail.
    pub attempts: u32,
    /// Pause after the first of them. Each further one is twice as long.
    pub first_pause: Duration,
    /// Longest pause between two requests.
    pub longest_pause: Duration,
    /// Time without a byte after which a connection counts as lost.
    pub idle_timeout: Duration,
    /// Time without progress after which waiting for another process that holds the file is given up.
    pub standstill: Duration,
}

impl RetryLimits {
    /// The limits in the settings of a hive.
    pub fn of(Rules { timers, bounds }: &Rules) -> Self {
        Self {
            attempts: bounds.hub_tries,
            first_pause: timers.hub_pause,
            longest_pause: timers.hub_pause_most,
            idle_timeout: timers.hub_silence,
            standstill: timers.hub_standstill,
        }
    }
}

impl Default for RetryLimits {
    fn default() -> Self {
        Self::of(&Rules::default())
    }
}

/// A failed request that may succeed when it is repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setback {
    /// Cause of the failure, for people.
    pub cause: String,
    /// Pause that the hub asks for.
    pub wait: Option<Duration>,
}

impl Setback {
    /// A setback for which the hub asks for no pause.
    pub fn new(cause: impl Into<String>) -> Self {
        Self { cause: cause.into(), wait: None }
    }
}

/// Decision after a setback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AfterSetback {
    /// Repeat the request after this pause.
    Retry(Duration),
    /// Fail the fetch.
    GiveUp(Failure),
}

/// Decides what follows a setback; `in_a_row` requests have failed, this one included.
pub fn after_setback(file: &HubFile, setback: &Setback, in_a_row: u32, limits: &RetryLimits) -> AfterSetback {
    if in_a_row >= limits.attempts {
        let message = format!(
            "failed to fetch hf:{file}: {}; {in_a_row} requests in a row have failed. The bytes fetched so far are kept, \
             and the next fetch continues there",
            setback.cause
        );
        return AfterSetback::GiveUp(Failure::new(FailureCode::FetchFailed, message));
    }
    let doublings = in_a_row.saturating_sub(1).min(16);
    let pause = limits.first_pause.saturating_mul(1 << doublings).max(setback.wait.unwrap_or_default());
    AfterSetback::Retry(pause.min(limits.longest_pause))
}

/// A refusal by the hub.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refusal {
    /// HTTP status of the response.
    pub status: u16,
    /// The hub's own code, from the header `x-error-code`.
    pub code: Option<String>,
    /// Pause that the hub asks for, from the header `retry-after`.
    pub wait: Option<Duration>,
}

/// The meaning of a refusal: a setback that may pass, or a failure.
///
/// # Errors
/// `access-denied`, `model-missing`, or `fetch-failed` where repeating the request would not help.
pub fn interpret(file: &HubFile, refusal: &Refusal, has_token: bool) -> Result<Setback, Failure> {
    let HubFile { repository, revision, path } = file;
    let revision = revision.as_deref().unwrap_or("main");
    let named = refusal.code.as_deref().map(|code| format!(" ({})", code.escape_default())).unwrap_or_default();
    let status = refusal.status;
    match status {
        401 | 403 => {
            let advice = match has_token {
                true => "accept its licence on the hub, and check that the token has access to it",
                false => {
                    "set HF_TOKEN to a token that has access to it, and accept its licence on the hub if it has one"
                }
            };
            let message = format!(
                "the hub refused access to {repository} with {status}{named}: the repository is private, needs its licence \
                 accepted, or does not exist; {advice}"
            );
            Err(Failure::new(FailureCode::AccessDenied, message))
        }
        404 | 410 => {
            let message = match (refusal.code.as_deref(), path) {
                (Some("RevisionNotFound"), _) => format!("the repository {repository} has no revision {revision}"),
                (Some("EntryNotFound"), Some(path)) => format!("there is no {path} in {repository} at {revision}"),
                (_, path) => {
                    let file = path.as_deref().map(|path| format!(" for {path}")).unwrap_or_default();
                    format!("the hub has no repository {repository} at {revision}{file}: it answered {status}{named}")
                }
            };
            Err(Failure::new(FailureCode::ModelMissing, message))
        }
        408 | 416 | 425 | 429 | 500.. => {
            Ok(Setback { cause: format!("the hub answered {status}{named}"), wait: refusal.wait })
        }
        _ => {
            let message = format!(
                "the hub answered {status}{named} for {repository}, which this version of rbee does not expect"
            );
            Err(Failure::new(FailureCode::FetchFailed, message))
        }
    }
}

/// Rate limit of progress reports: one at the beginning, one at the end, and at most ten per second between them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    last: Option<Instant>,
}

impl Pace {
    /// True where a report of `done` of `total` bytes is due now.
    pub fn is_due(&mut self, done: u64, total: u64, now: Instant) -> bool {
        let is_due = done >= total || self.last.is_none_or(|last| now.saturating_duration_since(last) >= PACE);
        if is_due {
            self.last = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> HubFile {
        "o/r@v1/m.gguf".parse().expect("a reference")
    }

    fn refusal(status: u16, code: Option<&str>) -> Refusal {
        Refusal { status, code: code.map(str::to_owned), wait: None }
    }

    #[test]
    fn refusal_names_a_remedy() {
        for (status, code, has_token, expected, expected_text) in [
            (401, None, false, FailureCode::AccessDenied, "set HF_TOKEN"),
            (403, Some("GatedRepo"), true, FailureCode::AccessDenied, "accept its licence"),
            (404, Some("RepoNotFound"), true, FailureCode::ModelMissing, "no repository o/r"),
            (404, Some("RevisionNotFound"), true, FailureCode::ModelMissing, "no revision v1"),
            (404, Some("EntryNotFound"), true, FailureCode::ModelMissing, "no m.gguf"),
            (404, None, true, FailureCode::ModelMissing, "404"),
            (400, None, true, FailureCode::FetchFailed, "400"),
        ] {
            let failure = interpret(&file(), &refusal(status, code), has_token).expect_err("a failure");
            assert_eq!(failure.code, expected, "{failure}");
            assert!(failure.message.contains(expected_text), "{failure}");
        }
    }

    #[test]
    fn busy_or_broken_hub_is_retried_when_it_asks_for_it() {
        for status in [408, 416, 429, 500, 502, 503, 504] {
            let busy = Refusal { wait: Some(Duration::from_secs(7)), ..refusal(status, None) };
            let setback = interpret(&file(), &busy, false).expect("a setback");
            assert_eq!(setback.wait, Some(Duration::from_secs(7)));
            let next = after_setback(&file(), &setback, 1, &RetryLimits::default());
            assert_eq!(next, AfterSetback::Retry(Duration::from_secs(7)));
        }
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_end_in_a_retryable_failure() {
        let limits = RetryLimits { attempts: 12, ..RetryLimits::default() };
        let seconds = |in_a_row| match after_setback(&file(), &Setback::new("cut"), in_a_row, &limits) {
            AfterSetback::Retry(pause) => pause.as_secs_f64(),
            AfterSetback::GiveUp(failure) => panic!("given up: {failure}"),
        };
        let pauses: Vec<f64> = (1..12).map(seconds).collect();
        assert_eq!(pauses, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0]);
        let patient = Setback { cause: "busy".into(), wait: Some(Duration::from_secs(86_400)) };
        assert_eq!(after_setback(&file(), &patient, 1, &limits), AfterSetback::Retry(limits.longest_pause));
        let AfterSetback::GiveUp(failure) = after_setback(&file(), &Setback::new("cut"), 12, &limits) else {
            panic!("given up");
        };
        assert!(failure.retryable && failure.code == FailureCode::FetchFailed, "{failure}");
        assert!(failure.message.contains("cut"), "{failure}");
    }

    #[test]
    fn limits_of_a_fetch_are_settings_of_the_hive() {
        let timers = "hub_pause=1s,hub_pause_most=3s,hub_silence=4s,hub_standstill=5s".parse().expect("timers");
        let rules = Rules { timers, bounds: "hub_tries=4".parse().expect("bounds") };
        let limits = RetryLimits::of(&rules);
        assert_eq!((limits.idle_timeout.as_secs(), limits.standstill.as_secs()), (4, 5));
        let next = |in_a_row| match after_setback(&file(), &Setback::new("cut"), in_a_row, &limits) {
            AfterSetback::Retry(pause) => Some(pause.as_secs()),
            AfterSetback::GiveUp(_) => None,
        };
        assert_eq!([1, 2, 3, 4].map(next), [Some(1), Some(2), Some(3), None]);
    }

    #[test]
    fn progress_is_reported_first_last_and_ten_times_a_second() {
        let begin = Instant::now();
        let at = |milliseconds| begin + Duration::from_millis(milliseconds);
        let mut pace = Pace::default();
        let reported: Vec<bool> = [(0, 0), (1, 1), (2, 99), (3, 100), (4, 150), (5, 200), (6, 201), (10, 202)]
            .map(|(done, milliseconds)| pace.is_due(done, 10, at(milliseconds)))
            .to_vec();
        assert_eq!(reported, [true, false, false, true, false, true, false, true]);
    }
}
