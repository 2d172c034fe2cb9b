//! Lines of a batch's output, in the format of OpenAI's batch API.
//!
//! Format: <https://platform.openai.com/docs/api-reference/batch/request-output>.

use rbee_schema::{Failure, JobId};
use serde::Serialize;

use crate::gateway::error_body;

/// Line of the output.
#[derive(Debug, Serialize)]
struct OutputLine<'a, B> {
    id: String,
    custom_id: Option<&'a str>,
    response: Option<Response<'a, B>>,
    error: Option<Error<'a>>,
}

#[derive(Debug, Serialize)]
struct Response<'a, B> {
    status_code: u16,
    request_id: &'a JobId,
    body: B,
}

#[derive(Debug, Serialize)]
struct Error<'a> {
    code: &'a str,
    message: &'a str,
}

/// The line for an answer.
pub(super) fn answered(job: &JobId, custom_id: Option<&str>, body: impl Serialize) -> Vec<u8> {
    write(&OutputLine {
        id: id(job),
        custom_id,
        response: Some(Response { status_code: 200, request_id: job, body }),
        error: None,
    })
}

/// The line for a request that failed: the reply that a client over HTTP would have got, and the failure.
pub(super) fn failed(job: &JobId, custom_id: Option<&str>, failure: &Failure) -> Vec<u8> {
    let body = error_body(failure);
    write(&OutputLine {
        id: id(job),
        custom_id,
        response: Some(Response { status_code: failure.code.http_status(), request_id: job, body }),
        error: Some(Error { code: failure.code.as_str(), message: &failure.message }),
    })
}

fn id(job: &JobId) -> String {
    format!("batch_req_{job}")
}

fn write(line: &impl Serialize) -> Vec<u8> {
    // Serializing our documents cannot fail.
    let mut line = serde_json::to_vec(line).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use rbee_schema::FailureCode;

    use super::*;

    #[test]
    fn lines_have_the_fields_of_the_api() {
        let job = "r-7".parse().expect("a name");
        let line = answered(&job, Some("a"), serde_json::json!({ "object": "list" }));
        let expected = concat!(
            r#"{"id":"batch_req_r-7","custom_id":"a","#,
            r#""response":{"status_code":200,"request_id":"r-7","body":{"object":"list"}},"error":null}"#,
            "\n"
        );
        assert_eq!(String::from_utf8_lossy(&line), expected);
        let line = failed(&job, None, &Failure::new(FailureCode::UnknownModel, "no model"));
        let expected = concat!(
            r#"{"id":"batch_req_r-7","custom_id":null,"response":{"status_code":404,"request_id":"r-7","#,
            r#""body":{"error":{"message":"no model","type":"invalid_request_error","param":null,"code":"unknown-model"}}},"#,
            r#""error":{"code":"unknown-model","message":"no model"}}"#,
            "\n"
        );
        assert_eq!(String::from_utf8_lossy(&line), expected);
    }
}
