//! Deadlines of jobs: two optional headers of a job's message, and the limits that apply without them.
//!
//! A deadline is a duration that counts from the moment at which the queue stored the job, on the clock of the server that
//! stored it. No clock of a client matters.

use std::time::Duration;

use crate::{Failure, FailureCode, JobClass, SettingValue};

/// Header with the time until the answer of a job must be complete.
pub const DEADLINE: &str = "Rbee-Deadline";

/// Header with the time until a worker must have started a job.
pub const QUEUE_DEADLINE: &str = "Rbee-Queue-Deadline";

/// Description of the valid values of both headers.
const EXPECTED: &str = "a duration from 1ms to 10years such as 30s, 1500ms or 5m, or `none`";

/// Maximum number of characters of an invalid value that its refusal repeats. The longest valid one has fewer.
const QUOTED: usize = 64;

/// One deadline as the headers of a job state it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Deadline {
    /// There is no header: the limit of the job's class applies.
    #[default]
    Unset,
    /// The header says `none`: the job may take any time.
    None,
    /// The time since the job was stored.
    After(Duration),
}

impl Deadline {
    /// Parses the value of a header or option.
    ///
    /// # Errors
    /// The value is invalid. The message states what was found and what is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == "none" {
            return Ok(Self::None);
        }
        let duration = if text.len() > QUOTED { None } else { Duration::read(text) };
        duration.map(Self::After).ok_or_else(|| format!("`{}`: expected {EXPECTED}", quoted(text)))
    }

    fn or(self, default: Option<Duration>) -> Option<Duration> {
        match self {
            Self::Unset => default,
            Self::None => None,
            Self::After(duration) => Some(duration),
        }
    }

    fn value(self) -> Option<String> {
        match self {
            Self::Unset => None,
            Self::None => Some("none".to_owned()),
            Self::After(duration) => Some(duration.to_text()),
        }
    }
}

/// Deadlines as the headers of a job state them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deadlines {
    /// Time until the answer must be complete.
    pub total: Deadline,
    /// Time until a worker must have started the job.
    pub queue: Deadline,
}

impl Deadlines {
    /// Reads the deadlines from headers, whose names are matched in any case. Other headers are skipped.
    ///
    /// # Errors
    /// A value is invalid, or a header is there twice.
    pub fn read<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, Failure> {
        let mut deadlines = Self::default();
        for (name, value) in headers {
            let (header, deadline) = if name.eq_ignore_ascii_case(DEADLINE) {
                (DEADLINE, &mut deadlines.total)
            } else if name.eq_ignore_ascii_case(QUEUE_DEADLINE) {
                (QUEUE_DEADLINE, &mut deadlines.queue)
            } else {
                continue;
            };
            if *deadline != Deadline::Unset {
                return Err(invalid(format!("the header {header} is there twice: expected one value; {AGAIN}")));
            }
            *deadline =
                Deadline::parse(value).map_err(|wrong| invalid(format!("the header {header} {wrong}; {AGAIN}")))?;
        }
        Ok(deadlines)
    }

    /// Headers that state these deadlines.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, String)> {
        let headers = [(DEADLINE, self.total), (QUEUE_DEADLINE, self.queue)];
        headers.into_iter().filter_map(|(name, deadline)| Some((name, deadline.value()?)))
    }

    /// Time limits of a job with these deadlines; `defaults` apply to those that are not set.
    pub fn or(&self, defaults: TimeLimits) -> TimeLimits {
        TimeLimits { total: self.total.or(defaults.total), queue: self.queue.or(defaults.queue) }
    }
}

/// Advice about a wrong header.
const AGAIN: &str = "submit the job again with such a value, or without the header";

fn invalid(message: String) -> Failure {
    Failure::new(FailureCode::InvalidRequest, message)
}

/// The beginning of a text, without control characters.
fn quoted(text: &str) -> String {
    let short: String = text.chars().take(QUOTED).map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect();
    if text.chars().nth(QUOTED).is_some() { format!("{short}...") } else { short }
}

/// Time limits of a job, from the moment at which it was stored. `None` for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimeLimits {
    /// Time until the answer must be complete.
    pub total: Option<Duration>,
    /// Time until a worker must have started the job.
    pub queue: Option<Duration>,
}

/// Time limits of the jobs of each class that state no deadlines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClassLimits {
    /// Limits of interactive jobs.
    pub interactive: TimeLimits,
    /// Limits of batch jobs.
    pub batch: TimeLimits,
}

impl ClassLimits {
    /// Limits of the jobs of a class.
    pub fn of(&self, class: JobClass) -> TimeLimits {
        match class {
            JobClass::Interactive => self.interactive,
            JobClass::Batch => self.batch,
        }
    }
}

/// The deadline that a job has missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    /// No worker has started the job in this time.
    Queue(Duration),
    /// The answer was not complete in this time.
    Total(Duration),
}

impl TimeLimits {
    /// The deadline that a job has missed that was stored so long ago. The queue deadline is met once a worker has started the
    /// job.
    pub fn missed(&self, age: Duration, is_started: bool) -> Option<Missed> {
        let queue = self.queue.filter(|limit| !is_started && age >= *limit).map(Missed::Queue);
        let total = self.total.filter(|limit| age >= *limit).map(Missed::Total);
        match (queue, total) {
            (Some(Missed::Queue(first)), Some(Missed::Total(then))) if first > then => total,
            (queue, total) => queue.or(total),
        }
    }
}

impl Missed {
    /// The failure of a job that has missed this deadline.
    pub fn failure(self) -> Failure {
        let message = match self {
            Self::Queue(limit) => format!(
                "no worker has started the job within its queue deadline of {}: submit it again later, or with a longer \
                 {QUEUE_DEADLINE}",
                limit.to_text()
            ),
            Self::Total(limit) => format!(
                "the job was not answered within its deadline of {}: submit it again later, or with a longer {DEADLINE}",
                limit.to_text()
            ),
        };
        Failure::new(FailureCode::DeadlineExceeded, message)
    }
}

/// Duration that may be unlimited.
impl SettingValue for Option<Duration> {
    const EXPECTED: &'static str = "a duration from 1ms to 10years, or `none`";

    fn read(text: &str) -> Option<Self> {
        if text == "none" { Some(None) } else { Duration::read(text).map(Some) }
    }

    fn to_text(&self) -> String {
        self.map_or_else(|| "none".to_owned(), |duration| duration.to_text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn headers_are_read_in_any_case_and_others_are_skipped() {
        let read = Deadlines::read([("rbee-deadline", "1500ms"), ("Rbee-Queue-Deadline", "none"), ("Other", "30")]);
        let expected = Deadlines { total: Deadline::After(SECOND * 3 / 2), queue: Deadline::None };
        assert_eq!(read, Ok(expected));
        let written: Vec<(&str, String)> = expected.headers().collect();
        assert_eq!(Deadlines::read(written.iter().map(|(name, value)| (*name, value.as_str()))), read);
        assert_eq!(Deadlines::read([]), Ok(Deadlines::default()));
        assert_eq!(Deadlines::default().headers().count(), 0);
    }

    #[test]
    fn invalid_headers_are_refused_by_name_and_value() {
        let long = "9".repeat(4000);
        for (name, value) in [
            (DEADLINE, "30"),
            (QUEUE_DEADLINE, "soon"),
            (DEADLINE, "-5s"),
            (DEADLINE, "0s"),
            (DEADLINE, ""),
            (QUEUE_DEADLINE, "11years"),
            (DEADLINE, long.as_str()),
            (DEADLINE, "1\u{1}s"),
        ] {
            let failure = Deadlines::read([(name, value)]).expect_err(value);
            assert_eq!(failure.code, FailureCode::InvalidRequest);
            let shown: String = value.chars().take(QUOTED).collect();
            let shown = shown.replace('\u{1}', "\u{FFFD}");
            assert!(failure.message.contains(&format!("{name} `{shown}")), "{failure}");
            assert!(failure.message.contains("expected a duration") && failure.message.len() < 400, "{failure}");
        }
        let twice = Deadlines::read([(DEADLINE, "1s"), (DEADLINE, "2s")]).expect_err("twice");
        assert!(twice.message.contains("twice"), "{twice}");
    }

    #[test]
    fn limits_of_the_class_apply_where_no_header_is() {
        let defaults = TimeLimits { total: Some(9 * SECOND), queue: Some(5 * SECOND) };
        for (total, queue, expected) in [
            (Deadline::Unset, Deadline::Unset, (Some(9), Some(5))),
            (Deadline::After(SECOND), Deadline::Unset, (Some(1), Some(5))),
            (Deadline::None, Deadline::After(2 * SECOND), (None, Some(2))),
            (Deadline::Unset, Deadline::None, (Some(9), None)),
        ] {
            let TimeLimits { total, queue } = Deadlines { total, queue }.or(defaults);
            assert_eq!((total.map(|it| it.as_secs()), queue.map(|it| it.as_secs())), expected);
        }
    }

    #[test]
    fn queue_deadline_is_missed_only_by_a_job_that_was_not_started() {
        let (queue, total) = (Missed::Queue(2 * SECOND), Missed::Total(5 * SECOND));
        let limits = TimeLimits { total: Some(5 * SECOND), queue: Some(2 * SECOND) };
        for (age, is_started, missed) in [
            (1, false, None),
            (2, false, Some(queue)),
            (2, true, None),
            (5, true, Some(total)),
            (9, false, Some(queue)),
        ] {
            assert_eq!(limits.missed(age * SECOND, is_started), missed, "{age} s, started: {is_started}");
        }
        let late = TimeLimits { queue: Some(7 * SECOND), ..limits };
        assert_eq!(late.missed(9 * SECOND, false), Some(total), "the earlier one is named");
        assert_eq!(TimeLimits::default().missed(Duration::MAX, false), None);
    }
}
