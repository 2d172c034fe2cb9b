//! Errors of the NATS server and its client that can only be recognized by their text: the library gives them no type.
//!
//! Nothing else in the repository matches errors of the server by text. `tests/it/bus/server_errors.rs` holds every function
//! here against a real server, so that a new version of the server or the client that words them otherwise is noticed.

/// Text of a publish that the stream `jobs` refuses because a subject has as many messages as it may.
const TOO_MANY_MESSAGES: &str = "maximum messages per subject";

/// Text of a publish that the stream `jobs` refuses because the stream is as large as it may be.
const TOO_MANY_BYTES: &str = "maximum bytes";

/// Texts of a publish that the server refuses because the message is larger than its limit, or than that of the stream.
const TOO_LARGE: [&str; 2] = ["message size exceeds maximum", "maximum payload"];

/// Texts of the deletion of a message that does not exist: it was deleted before, or its sequence was never reached.
const NO_MESSAGE: [&str; 2] = ["no message found", "stream store EOF"];

/// Text of a request about a stream that does not exist.
const NO_STREAM: &str = "stream not found";

/// Text of a pull from a consumer that no server answers for.
const NO_CONSUMER: &str = "messages from the stream: 503";

/// Texts of requests that the servers cannot answer at present: JetStream is unavailable (no leader), nobody subscribes to
/// the request, no stream takes the subject (also said while the stream has no leader), no answer in time, and a lost
/// connection.
const TRANSIENT: [&str; 5] = ["code 503", "no responders", "no stream found", "timed out", "broken pipe"];

/// True if a publish failed because the stream holds as many messages or bytes as it may.
pub fn is_full(cause: &str) -> bool {
    cause.contains(TOO_MANY_MESSAGES) || cause.contains(TOO_MANY_BYTES)
}

/// True if a publish failed because the message is larger than the server or the stream accepts.
pub fn is_too_large(cause: &str) -> bool {
    TOO_LARGE.iter().any(|text| cause.contains(text))
}

/// True if the deletion of a message failed because the message does not exist.
pub fn is_no_message(cause: &str) -> bool {
    NO_MESSAGE.iter().any(|text| cause.contains(text))
}

/// True if a request failed because its stream does not exist.
pub fn is_missing_stream(cause: &str) -> bool {
    cause.contains(NO_STREAM)
}

/// True if a pull failed because no server answers for the consumer. In a cluster, a consumer may have been created on a
/// server that ours does not know of yet.
pub fn is_unknown_consumer(cause: &str) -> bool {
    cause.contains(NO_CONSUMER)
}

/// True if the servers could not answer at present, and the same request may succeed later. A refusal is not transient.
pub fn is_transient(cause: &str) -> bool {
    TRANSIENT.iter().any(|text| cause.contains(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These texts come from a cluster, which the test against the real server does not start.
    #[test]
    fn unavailability_is_transient_and_a_refusal_is_not() {
        for (cause, expected) in [
            ("JetStream error: JetStream system temporarily unavailable (code 503, error code 10008)", true),
            ("failed to get last raw message: timed out: request timed out: deadline has elapsed", true),
            ("no stream found for given subject", true),
            ("JetStream error: stream not found (code 404, error code 10059)", false),
            ("port is leased by hive a for worker w", false),
        ] {
            assert_eq!(is_transient(cause), expected, "{cause}");
        }
    }
}
