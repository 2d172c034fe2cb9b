//! Parsing of request bodies, with failures that name the field.

use serde::de::DeserializeOwned;

use crate::{Failure, FailureCode};

/// Largest body of a job in bytes. A NATS message holds 1 MiB; half of it leaves space for the rendered prompt.
pub const MAX_BODY_BYTES: usize = 512 * 1024;

/// Parses a body without checking it further.
///
/// # Errors
/// `body-too-large`, `invalid-json`, or `invalid-request` with the path of the invalid field.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    if body.len() > MAX_BODY_BYTES {
        return Err(Failure::new(
            FailureCode::BodyTooLarge,
            format!("the body has {} bytes: at most {MAX_BODY_BYTES} are allowed; send a shorter chat", body.len()),
        ));
    }
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

pub(crate) fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(FailureCode::InvalidRequest, message)
}

pub(crate) fn check_count(field: &str, count: usize, most: usize, what: &str) -> Result<(), Failure> {
    if count > most {
        return Err(invalid(format!("{field} has {count} {what}: at most {most} are allowed")));
    }
    Ok(())
}
