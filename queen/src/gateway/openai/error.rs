//! Error replies.

use rbee_schema::FailureCode;
use serde::Serialize;

/// Body of an error reply.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorBody {
    error: ErrorObject,
}

#[derive(Debug, Serialize)]
struct ErrorObject {
    message: String,
    r#type: ErrorType,
    /// Parameter that is wrong. Always `null`: the message names it.
    param: Option<String>,
    code: Option<FailureCode>,
}

/// Class of an error.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ErrorType {
    /// The request is at fault.
    InvalidRequestError,
    /// The server is at fault.
    ServerError,
}

impl ErrorBody {
    pub(crate) fn new(message: String, r#type: ErrorType, code: Option<FailureCode>) -> Self {
        Self { error: ErrorObject { message, r#type, param: None, code } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_has_the_fields_of_the_api() {
        let code = Some(FailureCode::QueueFull);
        let error = ErrorBody::new("full".to_owned(), ErrorType::InvalidRequestError, code);
        assert_eq!(
            serde_json::to_string(&error).expect("JSON"),
            r#"{"error":{"message":"full","type":"invalid_request_error","param":null,"code":"queue-full"}}"#
        );
    }
}
