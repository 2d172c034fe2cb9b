//! What a hub's refusal means, whether a request is tried again, and when progress is told.

use std::time::{Duration, Instant};

use rbee_schema::{Failure, FailureCode, HubFile};

use super::rules::Rules;

/// How often progress is told at most: enough for a bar that moves, and few enough for the bus.
const PACE: Duration = Duration::from_millis(100);

/// How long a fetch bears with the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How many tries in a row may bring nothing.
    pub tries: u32,
    /// The pause after the first of them; each further one is twice as long.
    pub first_pause: Duration,
    /// The longest pause between two tries.
    pub longest_pause: Duration,
    /// How long a connection may be silent.
    pub silence: Duration,
    /// How long another process may hold a file without a byte more in it. Checking what is there brings none.
    pub standstill: Duration,
}

impl Patience {
    /// What the settings of a hive say.
    pub fn of(Rules { timers, bounds }: &Rules) -> Self {
        Self {
            tries: bounds.hub_tries,
            first_pause: timers.hub_pause,
            longest_pause: timers.hub_pause_most,
            silence: timers.hub_silence,
            standstill: timers.hub_standstill,
        }
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self::of(&Rules::default())
    }
}

/// A request that did not bring what it was for, and may when it is made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setback {
    /// What went wrong, in words.
    pub cause: String,
    /// How long the hub asks to wait.
    pub wait: Option<Duration>,
}

impl Setback {
    /// A setback without a wish for a pause.
    pub fn new(cause: impl Into<String>) -> Self {
        Self { cause: cause.into(), wait: None }
    }
}

/// What is to be done about a setback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AfterSetback {
    /// Try again after this long.
    TryAgain(Duration),
    /// Leave it.
    GiveUp(Failure),
}

/// Decides by how many tries in a row brought nothing, this one included.
pub fn after_setback(wanted: &HubFile, setback: &Setback, in_a_row: u32, patience: &Patience) -> AfterSetback {
    if in_a_row >= patience.tries {
        let message = format!(
            "hf:{wanted} cannot be fetched: {}; {in_a_row} tries in a row brought nothing. What is here is kept, and \
             the next fetch goes on from there",
            setback.cause
        );
        return AfterSetback::GiveUp(Failure::new(FailureCode::FetchFailed, message));
    }
    let doublings = in_a_row.saturating_sub(1).min(16);
    let pause = patience.first_pause.saturating_mul(1 << doublings).max(setback.wait.unwrap_or_default());
    AfterSetback::TryAgain(pause.min(patience.longest_pause))
}

/// A refusal of the hub.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refusal {
    /// The status of the answer.
    pub status: u16,
    /// What the hub names it, in `x-error-code`.
    pub code: Option<String>,
    /// How long it asks to wait, in `retry-after`.
    pub wait: Option<Duration>,
}

/// What a refusal means: a failure, or a setback.
///
/// # Errors
/// `access-denied`, `model-missing`, or `fetch-failed` for what another try would not change.
pub fn meaning(wanted: &HubFile, refusal: &Refusal, has_token: bool) -> Result<Setback, Failure> {
    let HubFile { repository, revision, path } = wanted;
    let revision = revision.as_deref().unwrap_or("main");
    let named = refusal.code.as_deref().map(|code| format!(" ({})", code.escape_default())).unwrap_or_default();
    let status = refusal.status;
    match status {
        401 | 403 => {
            let advice = match has_token {
                true => "accept its licence on the hub, and see that the token may read it",
                false => "set HF_TOKEN to a token that may read it, and accept its licence on the hub if it has one",
            };
            let message = format!(
                "the hub refuses access to {repository} with {status}{named}: it is private, or its licence must be \
                 accepted, or there is no such repository; {advice}"
            );
            Err(Failure::new(FailureCode::AccessDenied, message))
        }
        404 | 410 => {
            let message = match (refusal.code.as_deref(), path) {
                (Some("RevisionNotFound"), _) => format!("the repository {repository} has no revision {revision}"),
                (Some("EntryNotFound"), Some(path)) => format!("there is no {path} in {repository} at {revision}"),
                (_, path) => {
                    let file = path.as_deref().map(|path| format!(" for {path}")).unwrap_or_default();
                    format!("the hub has no repository {repository} at {revision}{file}: it answers {status}{named}")
                }
            };
            Err(Failure::new(FailureCode::ModelMissing, message))
        }
        408 | 416 | 425 | 429 | 500.. => {
            Ok(Setback { cause: format!("the hub answers {status}{named}"), wait: refusal.wait })
        }
        _ => {
            let message = format!("the hub answers {status}{named} for {repository}, which is none of its answers");
            Err(Failure::new(FailureCode::FetchFailed, message))
        }
    }
}

/// When progress is told: at the beginning, at the end, and not too often between them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    last: Option<Instant>,
}

impl Pace {
    /// Whether it is told now that `done` of `total` bytes are here.
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

    fn wanted() -> HubFile {
        "o/r@v1/m.gguf".parse().expect("a reference")
    }

    fn refusal(status: u16, code: Option<&str>) -> Refusal {
        Refusal { status, code: code.map(str::to_owned), wait: None }
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        for (status, code, has_token, expected, words) in [
            (401, None, false, FailureCode::AccessDenied, "set HF_TOKEN"),
            (403, Some("GatedRepo"), true, FailureCode::AccessDenied, "accept its licence"),
            (404, Some("RepoNotFound"), true, FailureCode::ModelMissing, "no repository o/r"),
            (404, Some("RevisionNotFound"), true, FailureCode::ModelMissing, "no revision v1"),
            (404, Some("EntryNotFound"), true, FailureCode::ModelMissing, "no m.gguf"),
            (404, None, true, FailureCode::ModelMissing, "404"),
            (400, None, true, FailureCode::FetchFailed, "400"),
        ] {
            let failure = meaning(&wanted(), &refusal(status, code), has_token).expect_err("a failure");
            assert_eq!(failure.code, expected, "{failure}");
            assert!(failure.message.contains(words), "{failure}");
        }
    }

    #[test]
    fn a_busy_or_broken_hub_is_tried_again_when_it_says() {
        for status in [408, 416, 429, 500, 502, 503, 504] {
            let busy = Refusal { wait: Some(Duration::from_secs(7)), ..refusal(status, None) };
            let setback = meaning(&wanted(), &busy, false).expect("a setback");
            assert_eq!(setback.wait, Some(Duration::from_secs(7)));
            let next = after_setback(&wanted(), &setback, 1, &Patience::default());
            assert_eq!(next, AfterSetback::TryAgain(Duration::from_secs(7)));
        }
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_end_in_a_failure_that_may_be_tried_again() {
        let patience = Patience { tries: 12, ..Patience::default() };
        let seconds = |in_a_row| match after_setback(&wanted(), &Setback::new("cut"), in_a_row, &patience) {
            AfterSetback::TryAgain(pause) => pause.as_secs_f64(),
            AfterSetback::GiveUp(failure) => panic!("given up: {failure}"),
        };
        let pauses: Vec<f64> = (1..12).map(seconds).collect();
        assert_eq!(pauses, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0]);
        let patient = Setback { cause: "busy".into(), wait: Some(Duration::from_secs(86_400)) };
        assert_eq!(after_setback(&wanted(), &patient, 1, &patience), AfterSetback::TryAgain(patience.longest_pause));
        let AfterSetback::GiveUp(failure) = after_setback(&wanted(), &Setback::new("cut"), 12, &patience) else {
            panic!("given up");
        };
        assert!(failure.retryable && failure.code == FailureCode::FetchFailed, "{failure}");
        assert!(failure.message.contains("cut"), "{failure}");
    }

    #[test]
    fn how_long_a_fetch_bears_with_the_hub_is_what_the_hive_was_told() {
        let timers = "hub_pause=1s,hub_pause_most=3s,hub_silence=4s,hub_standstill=5s".parse().expect("timers");
        let rules = Rules { timers, bounds: "hub_tries=4".parse().expect("bounds") };
        let patience = Patience::of(&rules);
        assert_eq!((patience.silence.as_secs(), patience.standstill.as_secs()), (4, 5));
        let next = |in_a_row| match after_setback(&wanted(), &Setback::new("cut"), in_a_row, &patience) {
            AfterSetback::TryAgain(pause) => Some(pause.as_secs()),
            AfterSetback::GiveUp(_) => None,
        };
        assert_eq!([1, 2, 3, 4].map(next), [Some(1), Some(2), Some(3), None]);
    }

    #[test]
    fn progress_is_told_first_last_and_ten_times_a_second_between() {
        let begin = Instant::now();
        let at = |milliseconds| begin + Duration::from_millis(milliseconds);
        let mut pace = Pace::default();
        let told: Vec<bool> = [(0, 0), (1, 1), (2, 99), (3, 100), (4, 150), (5, 200), (6, 201), (10, 202)]
            .map(|(done, milliseconds)| pace.is_due(done, 10, at(milliseconds)))
            .to_vec();
        assert_eq!(told, [true, false, false, true, false, true, false, true]);
    }
}
