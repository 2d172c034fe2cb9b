//! Deadlines in the headers of jobs.

use std::time::SystemTime;

use async_nats::{HeaderMap, jetstream::message::PublishMessage};
use rbee_schema::{Deadlines, Failure, JobClass};

use crate::{
    Bus, Subject,
    bus::{header, number},
};

/// Deadlines of a stored job, from its notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedDeadlines {
    /// Sequence in the stream `jobs`.
    pub sequence: u64,
    /// Class of the job.
    pub class: JobClass,
    /// Time at which the server stored the job.
    pub stored: SystemTime,
    /// Deadlines that the job states, or the failure that refuses it.
    pub deadlines: Result<Deadlines, Failure>,
}

/// Deadlines in the headers of a message.
pub(crate) fn deadlines(headers: Option<&HeaderMap>) -> Result<Deadlines, Failure> {
    let headers = headers.into_iter().flat_map(HeaderMap::iter);
    let pairs = headers.flat_map(|(name, values)| values.iter().map(move |value| (name.as_ref(), value.as_str())));
    Deadlines::read(pairs)
}

/// Adds deadlines to the message of a job.
pub(super) fn with_deadlines(deadlines: &Deadlines, message: PublishMessage) -> PublishMessage {
    deadlines.headers().fold(message, |message, (name, value)| message.header(name, value.as_str()))
}

impl Bus {
    /// Parses the deadlines in the notice of a stored job. `None` for any other message.
    pub fn queued_deadlines(&self, message: &async_nats::Message) -> Option<QueuedDeadlines> {
        let Some(Subject::Queued(_, class, _)) = self.parse(&message.subject) else { return None };
        let headers = message.headers.as_ref();
        let stored = humantime::parse_rfc3339(header(headers, "Nats-Time-Stamp")?).ok()?;
        Some(QueuedDeadlines {
            sequence: number(message, "Nats-Sequence")?,
            class,
            stored,
            deadlines: deadlines(headers),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rbee_schema::{DEADLINE, Deadline, FailureCode};

    use super::*;

    #[test]
    fn deadlines_are_found_among_other_headers_in_any_case() {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", "a");
        assert_eq!(deadlines(Some(&headers)), Ok(Deadlines::default()));
        assert_eq!(deadlines(None), Ok(Deadlines::default()));
        headers.insert("rbee-deadline", "2s");
        let found = deadlines(Some(&headers)).expect("valid");
        assert_eq!(found.total, Deadline::After(Duration::from_secs(2)));
        headers.append("rbee-deadline", "3s");
        let failure = deadlines(Some(&headers)).expect_err("it is there twice");
        assert_eq!(failure.code, FailureCode::InvalidRequest);
        assert!(failure.message.contains(DEADLINE), "{failure}");
    }
}
