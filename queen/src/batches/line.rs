//! One line of a batch: a request in the format of OpenAI's batch API.
//!
//! Format: <https://platform.openai.com/docs/api-reference/batch/request-input>.

use bytes::Bytes;
use rbee_schema::{Failure, FailureCode, ModelName};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::lines::LineContent;
use crate::{gateway::openai::ChatCompletionRequest, inference::Request};

/// Request of a line.
#[derive(Debug)]
pub(super) struct Line {
    /// Id that the client has given the line, if it can be read.
    pub(super) custom_id: Option<String>,
    /// The request, or the mistake in it.
    pub(super) request: Result<LineRequest, Failure>,
}

/// Request of a line, by its kind.
#[derive(Debug)]
pub(super) enum LineRequest {
    /// A chat completion: one request for each choice.
    Chat(Vec<Request>),
    /// Embeddings.
    Embeddings(Request),
}

#[derive(Deserialize)]
struct Written<'a> {
    method: Option<String>,
    url: String,
    #[serde(borrow)]
    body: &'a RawValue,
}

#[derive(Deserialize)]
struct CustomId {
    custom_id: Option<String>,
}

impl Line {
    /// Reads a line. Requests that name no model are for `model`.
    pub(super) fn read(content: &LineContent, model: Option<&ModelName>) -> Self {
        let line = match content {
            LineContent::Whole(line) => line,
            LineContent::TooLong => {
                let message =
                    "the line is longer than a request may be: raise the limit `body_size` of the bus, or send less";
                return Self { custom_id: None, request: Err(Failure::new(FailureCode::BodyTooLarge, message)) };
            }
        };
        let custom_id = serde_json::from_slice(line).ok().and_then(|CustomId { custom_id }| custom_id);
        let request = match &custom_id {
            Some(_) => read(line, model),
            None => {
                read(line, model).and_then(|_| Err(invalid("custom_id is missing: give each line a text of its own")))
            }
        };
        Self { custom_id, request }
    }
}

fn read(line: &[u8], model: Option<&ModelName>) -> Result<LineRequest, Failure> {
    let Written { method, url, body } = serde_json::from_slice(line).map_err(|error| match error.is_data() {
        true => invalid(format!("the line is no request: {error}; expected custom_id, method, url and body")),
        false => Failure::new(FailureCode::InvalidJson, format!("the line is not JSON: {error}")),
    })?;
    if method.as_deref().is_some_and(|method| method != "POST") {
        return Err(invalid("method must be POST"));
    }
    let body = Bytes::copy_from_slice(body.get().as_bytes());
    let with_model = |request: Request| request.with_default_model(model);
    match url.as_str() {
        "/v1/chat/completions" => {
            let mut request = ChatCompletionRequest::read(&body)?;
            Ok(LineRequest::Chat(request.take_choices().into_iter().map(with_model).collect()))
        }
        "/v1/embeddings" => Ok(LineRequest::Embeddings(with_model(Request::read_embeddings(&body)?))),
        other => {
            let shown: String = other.chars().take(80).collect();
            Err(invalid(format!("url is `{shown}`: expected /v1/chat/completions or /v1/embeddings")))
        }
    }
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(FailureCode::InvalidRequest, message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const CHAT: &str = r#"{"messages":[{"role":"user","content":"Hi"}]}"#;

    fn line(text: &str) -> Line {
        Line::read(&LineContent::Whole(Bytes::copy_from_slice(text.as_bytes())), None)
    }

    fn written(url: &str, body: &str) -> String {
        format!(r#"{{"custom_id":"a","method":"POST","url":"{url}","body":{body}}}"#)
    }

    #[test]
    fn both_kinds_of_requests_are_read() {
        let chat = line(&written("/v1/chat/completions", CHAT));
        assert_eq!(chat.custom_id.as_deref(), Some("a"));
        assert!(matches!(chat.request, Ok(LineRequest::Chat(choices)) if choices.len() == 1));
        let several = json!({ "messages": [{ "role": "user", "content": "Hi" }], "n": 3 }).to_string();
        let several = line(&written("/v1/chat/completions", &several));
        assert!(matches!(several.request, Ok(LineRequest::Chat(choices)) if choices.len() == 3));
        let embeddings = line(&written("/v1/embeddings", r#"{"model":"e","input":"a"}"#));
        assert!(matches!(embeddings.request, Ok(LineRequest::Embeddings(_))));
    }

    #[test]
    fn mistake_of_a_line_is_named_with_its_custom_id() {
        for (text, custom_id, words) in [
            ("{".to_owned(), None, "not JSON"),
            ("[]".to_owned(), None, "no request"),
            (r#"{"custom_id":"a","url":"/v1/embeddings"}"#.to_owned(), Some("a"), "body"),
            (written("/v1/completions", CHAT), Some("a"), "expected /v1/chat/completions"),
            (written("/v1/chat/completions", r#"{"messages":[]}"#), Some("a"), "messages is empty"),
            (written("/v1/embeddings", CHAT), Some("a"), "`input`"),
            (written("/v1/embeddings", CHAT).replace("POST", "GET"), Some("a"), "POST"),
            (written("/v1/chat/completions", CHAT).replace("custom_id", "id"), None, "custom_id is missing"),
        ] {
            let Line { custom_id: found, request } = line(&text);
            assert_eq!(found.as_deref(), custom_id, "{text}");
            let failure = request.expect_err(&text);
            assert!(failure.message.contains(words), "{text}: {failure}");
        }
        assert!(Line::read(&LineContent::TooLong, None).request.is_err());
    }
}
