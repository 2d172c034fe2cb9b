use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::{Failure, FailureCode, MAX_BODY_BYTES};

#[test]
fn the_shortest_job_is_one_message() {
    let job = JobRequest::from_json(br#"{"messages":[{"role":"user","content":"Hi"}]}"#).expect("valid");
    assert_eq!(job.messages, [Message::new(Role::User, "Hi")]);
    assert_eq!(job.sampling(7).seed, 7);
}

#[test]
fn alternative_forms_of_the_openai_api_are_accepted() {
    let job = JobRequest::from_json(
        br#"{"model":"m","messages":[{"role":"developer","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}],
             "max_completion_tokens":5,"stop":"\n","stream":true,"seed":3,"user":"x","logit_bias":{}}"#,
    )
    .expect("valid");
    assert_eq!((job.messages[0].role, job.messages[0].text()), (Role::System, "ab"));
    assert_eq!((job.max_tokens, job.stop, job.seed), (Some(5), vec!["\n".to_owned()], Some(3)));
}

#[test]
fn settings_of_single_tokens_are_parsed() {
    let job = JobRequest::from_json(
        br#"{"messages":[{"role":"user","content":"Hi"}],"logit_bias":{"50256":-100,"7":2.5},"stop_token_ids":[3,4],
             "logprobs":true,"top_logprobs":5,"min_tokens":2,"presence_penalty":0.5,"frequency_penalty":-1}"#,
    )
    .expect("valid");
    let sampling = job.sampling(0);
    assert_eq!(sampling.logit_bias, BTreeMap::from([(7, 2.5), (50_256, -100.0)]));
    assert_eq!((sampling.presence_penalty, sampling.frequency_penalty), (0.5, -1.0));
    assert_eq!((sampling.logprobs, sampling.min_tokens, job.stop_token_ids), (Some(5), 2, vec![3, 4]));
}

#[test]
fn output_format_is_set_as_in_the_openai_api_or_as_in_vllm() {
    let schema = json!({ "type": "integer" });
    for (fields, expected) in [
        (json!({ "response_format": { "type": "text" } }), None),
        (
            json!({ "response_format": { "type": "json_object" } }),
            Some(OutputFormat::Json(json!({ "type": "object" }))),
        ),
        (
            json!({ "response_format":
                { "type": "json_schema", "json_schema": { "name": "n", "strict": true, "schema": schema } } }),
            Some(OutputFormat::Json(schema.clone())),
        ),
        (json!({ "structured_outputs": { "json": schema } }), Some(OutputFormat::Json(schema))),
        (json!({ "structured_outputs": { "regex": "a+" } }), Some(OutputFormat::Regex("a+".into()))),
        (
            json!({ "structured_outputs": { "choice": ["a", "b"] } }),
            Some(OutputFormat::Choice(vec!["a".into(), "b".into()])),
        ),
        (
            json!({ "structured_outputs": { "grammar": "start: \"a\"" }, "response_format": { "type": "text" } }),
            Some(OutputFormat::Grammar("start: \"a\"".into())),
        ),
    ] {
        let mut body = json!({ "messages": [{ "role": "user", "content": "Hi" }] });
        body.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        let job = JobRequest::from_json(body.to_string().as_bytes()).expect("valid");
        assert_eq!(job.output_format(), expected, "{body}");
        assert_eq!(JobRequest::from_json(&serde_json::to_vec(&job).expect("serializes")), Ok(job));
    }
}

#[test]
fn a_null_field_counts_as_absent() {
    let job = JobRequest::from_json(
        br#"{"messages":[{"role":"user","content":"Hi"}],"logit_bias":null,"stop":null,"stop_token_ids":null,
             "logprobs":null,"top_logprobs":null,"n":null,"seed":null}"#,
    );
    let expected = JobRequest { messages: vec![Message::new(Role::User, "Hi")], ..JobRequest::default() };
    assert_eq!(job, Ok(expected));
}

#[test]
fn an_invalid_body_is_refused_by_field() {
    let chat = r#""messages":[{"role":"user","content":"Hi"}]"#;
    for (body, code, words) in [
        ("{".to_owned(), FailureCode::InvalidJson, "not JSON"),
        (format!("{{{chat}}} x"), FailureCode::InvalidJson, "not one JSON document"),
        ("[]".to_owned(), FailureCode::InvalidRequest, "invalid"),
        ("{}".to_owned(), FailureCode::InvalidRequest, "messages"),
        (r#"{"messages":[]}"#.to_owned(), FailureCode::InvalidRequest, "at least one"),
        (
            r#"{"messages":[{"role":"user","content":5}]}"#.to_owned(),
            FailureCode::InvalidRequest,
            "messages[0].content",
        ),
        (r#"{"messages":[{"role":"king","content":""}]}"#.to_owned(), FailureCode::InvalidRequest, "messages[0].role"),
        (
            r#"{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}"#.to_owned(),
            FailureCode::InvalidRequest,
            "image_url",
        ),
        (format!("{{{chat},\"max_tokens\":0}}"), FailureCode::InvalidRequest, "max_tokens is 0"),
        (format!("{{{chat},\"max_tokens\":-1}}"), FailureCode::InvalidRequest, "max_tokens"),
        (format!("{{{chat},\"temperature\":3}}"), FailureCode::InvalidRequest, "0 to 2"),
        (format!("{{{chat},\"top_p\":0}}"), FailureCode::InvalidRequest, "more than 0 to 1"),
        (
            format!("{{{chat},\"ignore_eos\":true,\"structured_outputs\":{{\"regex\":\"a+\"}}}}"),
            FailureCode::InvalidRequest,
            "leave one of the two out",
        ),
        (format!("{{{chat},\"stop\":[\"a\",\"\"]}}"), FailureCode::InvalidRequest, "empty text"),
        (format!("{{{chat},\"presence_penalty\":3}}"), FailureCode::InvalidRequest, "-2 to 2"),
        (format!("{{{chat},\"logit_bias\":{{\"7\":101}}}}"), FailureCode::InvalidRequest, "logit_bias.7 is 101"),
        (format!("{{{chat},\"logit_bias\":{{\"bee\":1}}}}"), FailureCode::InvalidRequest, "logit_bias"),
        (format!("{{{chat},\"top_logprobs\":3}}"), FailureCode::InvalidRequest, "needs logprobs"),
        (format!("{{{chat},\"logprobs\":true,\"top_logprobs\":21}}"), FailureCode::InvalidRequest, "0 to 20"),
        (format!("{{{chat},\"min_tokens\":3,\"max_tokens\":2}}"), FailureCode::InvalidRequest, "min_tokens is 3"),
        (
            format!("{{{chat},\"response_format\":{{\"type\":\"xml\"}}}}"),
            FailureCode::InvalidRequest,
            "response_format",
        ),
        (
            format!("{{{chat},\"response_format\":{{\"type\":\"json_schema\",\"json_schema\":{{}}}}}}"),
            FailureCode::InvalidRequest,
            "schema",
        ),
        (format!("{{{chat},\"structured_outputs\":{{}}}}"), FailureCode::InvalidRequest, "expected one of json"),
        (
            format!("{{{chat},\"structured_outputs\":{{\"regex\":\"a\",\"choice\":[\"a\"]}}}}"),
            FailureCode::InvalidRequest,
            "sets 2 formats",
        ),
        (
            format!(
                "{{{chat},\"structured_outputs\":{{\"regex\":\"a\"}},\"response_format\":{{\"type\":\"json_object\"}}}}"
            ),
            FailureCode::InvalidRequest,
            "leave one out",
        ),
        (format!("{{{chat},\"n\":2}}"), FailureCode::InvalidRequest, "n must be 1"),
        (" ".repeat(MAX_BODY_BYTES + 1), FailureCode::InvalidJson, "not JSON"),
        (
            format!("{{{chat},\"stop\":{:?}}}", "x".repeat(MAX_BODY_BYTES)),
            FailureCode::InvalidRequest,
            "only messages may be longer",
        ),
        (
            format!("{{{chat},\"unknown\":[{}0]}}", "0,".repeat(MAX_BODY_BYTES / 2)),
            FailureCode::InvalidRequest,
            "JSON values",
        ),
    ] {
        let failure = JobRequest::from_json(body.as_bytes()).expect_err(&body);
        assert_eq!(failure.code, code, "{failure}");
        assert!(failure.message.contains(words), "{failure}");
    }
}

#[test]
fn a_chat_may_be_larger_than_a_message_of_the_bus() {
    let text = "x".repeat(4 * MAX_BODY_BYTES);
    let body = json!({ "messages": [{ "role": "user", "content": text }] });
    let request = JobRequest::from_json(body.to_string().as_bytes()).expect("valid");
    assert_eq!(request.messages[0].text(), text);
}

#[test]
fn a_request_is_parsed_as_it_was_written() {
    let job = JobRequest {
        model: Some("m".into()),
        messages: vec![Message::new(Role::User, "Hi")],
        stop: vec!["a".into(), "b".into()],
        temperature: Some(0.0),
        ..JobRequest::default()
    };
    let json = serde_json::to_vec(&job).expect("serializes");
    assert_eq!(JobRequest::from_json(&json).expect("valid"), job);
}

fn request_with_tools(fields: serde_json::Value) -> Result<JobRequest, Failure> {
    let mut body = json!({
        "messages": [{ "role": "user", "content": "Hi" }],
        "tools": [{ "type": "function", "function": { "name": "sun", "strict": true, "parameters": { "type": "object" } } }],
    });
    body.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
    JobRequest::from_json(body.to_string().as_bytes())
}

#[test]
fn tool_choice_selects_available_and_required_tools() {
    let named = json!({ "type": "function", "function": { "name": "sun" } });
    for (choice, available, required) in
        [(json!(null), 1, 0), (json!("auto"), 1, 0), (json!("none"), 0, 0), (json!("required"), 1, 1), (named, 1, 1)]
    {
        let job = request_with_tools(json!({ "tool_choice": choice })).expect("valid");
        assert_eq!((job.available_tools().len(), job.required_tools().len()), (available, required), "{choice}");
        assert_eq!(JobRequest::from_json(&serde_json::to_vec(&job).expect("serializes")), Ok(job));
    }
}

#[test]
fn only_an_assistant_with_tool_calls_may_have_no_content() {
    let call = json!([{ "id": "abc123xyz", "function": { "name": "sun", "arguments": "{\"a\":1}" } }]);
    let request_with = |message: serde_json::Value| request_with_tools(json!({ "messages": [message] }));
    for content in [json!(null), json!(""), json!("Hm.")] {
        let job = request_with(json!({ "role": "assistant", "content": content, "tool_calls": call })).expect("valid");
        assert_eq!(job.messages[0].tool_calls[0].arguments().expect("an object")["a"], 1);
    }
    let result =
        request_with(json!({ "role": "tool", "content": "6:42", "tool_call_id": "abc123xyz" })).expect("valid");
    assert_eq!(result.messages[0].tool_call_id.as_deref(), Some("abc123xyz"));
    for (message, words) in [
        (json!({ "role": "user" }), "messages[0] has no content"),
        (json!({ "role": "assistant", "content": null }), "messages[0] has no content"),
        (json!({ "role": "user", "content": "Hi", "tool_calls": call }), "only an assistant"),
        (
            json!({ "role": "assistant", "tool_calls": [{ "id": "a", "function": { "name": "sun", "arguments": "[1]" } }] }),
            "messages[0].tool_calls[0].function.arguments",
        ),
    ] {
        let failure = request_with(message).expect_err(words);
        assert!(failure.code == FailureCode::InvalidRequest && failure.message.contains(words), "{failure}");
    }
}

#[test]
fn invalid_tools_are_refused_by_field() {
    let tool = |name: &str| json!({ "type": "function", "function": { "name": name } });
    for (fields, words) in [
        (json!({ "tools": [tool("a b")] }), "tools[0].function.name"),
        (json!({ "tools": [tool("a"), tool("a")] }), "tools[1].function.name"),
        (json!({ "tools": [{ "type": "code", "function": {} }] }), "tools[0].type"),
        (json!({ "tools": (0..129).map(|n| tool(&format!("f{n}"))).collect::<Vec<_>>() }), "at most 128"),
        (json!({ "tools": [], "tool_choice": "required" }), "there are no tools"),
        (json!({ "tool_choice": { "type": "function", "function": { "name": "moon" } } }), "none of the tools"),
        (json!({ "tool_choice": "maybe" }), "expected \"none\""),
        (
            json!({ "tool_choice": "required", "response_format": { "type": "json_object" } }),
            "leave one of the two out",
        ),
        (json!({ "tool_choice": "required", "ignore_eos": true }), "leave one of the two out"),
    ] {
        let failure = request_with_tools(fields).expect_err(words);
        assert!(failure.code == FailureCode::InvalidRequest && failure.message.contains(words), "{failure}");
    }
}
