//! Parsing of request bodies, with failures that name the field.

use serde::de::DeserializeOwned;

use crate::{Failure, FailureCode};

/// Largest body of a job in its message, in bytes. A NATS message holds 1 MB. A larger body is stored as an object, up to the
/// limit `body_size` of the bus.
pub const MAX_BODY_BYTES: usize = 512 * 1024;

/// Largest number of values in the body of a chat: as many as fit into a body of [`MAX_BODY_BYTES`]. A value takes up to a
/// hundred times as many bytes in memory as in JSON, a text as many. So a larger body may have longer texts, and not more of
/// them.
const MAX_VALUES: usize = MAX_BODY_BYTES / 2;

/// Parses a body without checking it further. Whoever received it has limited its size.
///
/// # Errors
/// `invalid-json`, or `invalid-request` with the path of the invalid field.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let request = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let (path, cause) = (error.path().to_string(), error.inner());
        if cause.is_data() {
            let place = if path == "." { String::new() } else { format!("{path}: ") };
            invalid(format!("{place}{cause}"))
        } else {
            Failure::new(FailureCode::InvalidJson, format!("the body is not JSON: {cause}"))
        }
    })?;
    json.end().map_err(|cause| {
        Failure::new(FailureCode::InvalidJson, format!("the body is not one JSON document: {cause}"))
    })?;
    Ok(request)
}

/// Refuses the body of a chat with too many values, before it is parsed.
///
/// # Errors
/// `invalid-request`, with the limit.
pub(crate) fn check_values(body: &[u8]) -> Result<(), Failure> {
    if body.len() <= MAX_BODY_BYTES || values(body) <= MAX_VALUES {
        return Ok(());
    }
    Err(invalid(format!(
        "the body has more than {MAX_VALUES} JSON values: a large chat may have long texts, but not more messages, parts and \
         fields than that"
    )))
}

/// Upper limit of the number of values in a JSON document.
fn values(body: &[u8]) -> usize {
    let (mut values, mut in_text, mut is_escaped) = (1, false, false);
    for byte in body {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = in_text,
            b'"' => in_text = !in_text,
            b',' | b':' | b'[' | b'{' if !in_text => values += 1,
            _ => {}
        }
    }
    values
}

pub(crate) fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(FailureCode::InvalidRequest, message)
}

pub(crate) fn check_count(field: &str, count: usize, most: usize, what: &str) -> Result<(), Failure> {
    if count > most {
        return Err(invalid(format!("{field} has {count} {what}: at most {most} are allowed")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_outside_of_texts() {
        for (body, expected) in [(r#""a,b:[{\"""#, 1), ("[1,2,3]", 4), (r#"{"a":[{},"x\\"],"b":null}"#, 8), ("", 1)] {
            assert_eq!(values(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn large_body_may_have_long_texts_and_not_more_values() {
        let text = format!("[{:?}]", ",".repeat(MAX_BODY_BYTES));
        assert_eq!(check_values(text.as_bytes()), Ok(()));
        assert_eq!(check_values(&vec![b','; MAX_BODY_BYTES]), Ok(()), "no larger than ever");
        assert!(check_values(&vec![b','; MAX_BODY_BYTES + 1]).is_err());
    }
}
