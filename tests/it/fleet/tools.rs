//! Reasoning and tool calls, separated from the text of an answer, through worker, bus and gateway.

use std::fs;

use rbee_schema::{Chunk, FinishReason, ModelReference, ModelSpec, ToolCall};
use rbee_tests::{
    fleet::{Fleet, chat, text, tokens, whole},
    tools::model,
    wait::{PATIENCE, eventually},
};
use serde_json::{Value, json};

/// A chat with two tools.
fn offered(content: &str) -> Value {
    let mut body = chat(content);
    body["seed"] = json!(3);
    body["tools"] = json!([
        { "type": "function", "function": { "name": "sun", "description": "When the sun rises.", "parameters": {
            "type": "object",
            "properties": { "town": { "enum": ["Ulm", "Bonn"] }, "days": { "type": "integer", "minimum": 0, "maximum": 9 } },
            "required": ["town", "days"],
            "additionalProperties": false,
        } } },
        { "type": "function", "function": { "name": "moon" } },
    ]);
    body
}

/// A message that the mock engine answers with `answer`.
fn answered_by(answer: &str, settings: &str) -> String {
    format!("mock: echo {settings}\n{answer}")
}

fn calls(chunks: &[Chunk]) -> Vec<ToolCall> {
    let of = |chunk: &Chunk| match chunk {
        Chunk::Tokens { calls, .. } => calls.clone(),
        _ => Vec::new(),
    };
    chunks.iter().flat_map(of).collect()
}

fn reasoning(chunks: &[Chunk]) -> String {
    let of = |chunk: &Chunk| match chunk {
        Chunk::Tokens { reasoning, .. } => reasoning.clone(),
        _ => String::new(),
    };
    chunks.iter().map(of).collect()
}

fn finished(chunks: &[Chunk]) -> Option<FinishReason> {
    match chunks.last() {
        Some(Chunk::Done { finish_reason, .. }) => Some(*finish_reason),
        _ => None,
    }
}

/// True for a call of one of the tools of [`offered`] with valid arguments.
fn fits(call: &ToolCall) -> bool {
    let arguments = Value::Object(call.arguments().expect("an object"));
    match call.function.name.as_str() {
        "sun" => {
            ["Ulm", "Bonn"].iter().any(|town| arguments["town"] == *town)
                && arguments["days"].as_u64().is_some_and(|days| days <= 9)
        }
        name => name == "moon",
    }
}

const TWO_CALLS: &str = "Let me see.\n<tool_call>\n{\"name\": \"sun\", \"arguments\": {\"town\": \"Ulm\", \"days\": 1}}\n</tool_call>\n\
    <tool_call>\n{\"name\": \"moon\", \"arguments\": {}}\n</tool_call>";

#[tokio::test]
async fn tool_calls_are_separated_from_text() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "", 1, 1).await;
    let chunks = whole(&mut fleet.submit("m", offered(&answered_by(TWO_CALLS, ""))).await.1).await;
    assert_eq!(text(&chunks), "Let me see.");
    let called: Vec<(String, String)> =
        calls(&chunks).into_iter().map(|call| (call.function.name, call.function.arguments)).collect();
    let expected = [("sun", "{\"town\": \"Ulm\", \"days\": 1}"), ("moon", "{}")];
    assert_eq!(called, expected.map(|(name, arguments)| (name.to_owned(), arguments.to_owned())));
    assert_eq!(finished(&chunks), Some(FinishReason::ToolCalls));
    assert_eq!(tokens(&chunks).len(), TWO_CALLS.len(), "every generated token is counted");

    let mut one = offered(&answered_by(TWO_CALLS, ""));
    one["parallel_tool_calls"] = json!(false);
    let chunks = whole(&mut fleet.submit("m", one).await.1).await;
    assert_eq!((calls(&chunks).len(), finished(&chunks)), (1, Some(FinishReason::ToolCalls)));

    let mut none = offered(&answered_by(TWO_CALLS, ""));
    none["tool_choice"] = json!("none");
    let chunks = whole(&mut fleet.submit("m", none).await.1).await;
    assert_eq!((text(&chunks).as_str(), finished(&chunks)), (TWO_CALLS, Some(FinishReason::Stop)));
}

#[tokio::test]
async fn tool_call_survives_its_worker_and_is_sent_once() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "", 1, 1).await;
    // In the text before the calls, in the first call, between the calls, and in the second call.
    for lost in [5, 40, 100, 130] {
        let body = offered(&answered_by(TWO_CALLS, &format!("interval=1ms crash={lost}")));
        let chunks = whole(&mut fleet.submit("m", body).await.1).await;
        assert!(chunks.iter().any(|chunk| matches!(chunk, Chunk::Resumed { .. })), "a worker crashed at token {lost}");
        assert_eq!(text(&chunks), "Let me see.", "{lost}");
        let names: Vec<String> = calls(&chunks).into_iter().map(|call| call.function.name).collect();
        assert_eq!(names, ["sun", "moon"], "{lost}");
        assert_eq!(finished(&chunks), Some(FinishReason::ToolCalls), "{lost}");
        let ids: Vec<String> = calls(&chunks).into_iter().map(|call| call.id).collect();
        assert!(ids[0] != ids[1] && ids.iter().all(|id| id.len() == 9), "{ids:?}");
    }
}

#[tokio::test]
async fn required_tool_call_is_always_made() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=10", 1, 1).await;
    for (choice, names) in [
        (json!("required"), &["sun", "moon"][..]),
        (json!({ "type": "function", "function": { "name": "sun" } }), &["sun"]),
    ] {
        for seed in 1..=4 {
            let mut body = offered("When does it rise?");
            (body["tool_choice"], body["seed"]) = (choice.clone(), json!(seed));
            if choice == "required" {
                body["parallel_tool_calls"] = json!(false);
            }
            let chunks = whole(&mut fleet.submit("m", body).await.1).await;
            let called = calls(&chunks);
            assert_eq!((called.len(), text(&chunks).as_str()), (1, ""), "{choice}, {seed}: {chunks:?}");
            assert!(fits(&called[0]) && names.contains(&called[0].function.name.as_str()), "{called:?}");
            assert_eq!(finished(&chunks), Some(FinishReason::ToolCalls));
        }
    }
}

#[tokio::test]
async fn reasoning_is_separated_from_text_across_worker_crashes() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "think", 1, 1).await;
    for settings in ["", "interval=1ms crash=10", "interval=1ms crash=30"] {
        let body = chat(&answered_by("<think>\nIs it 6 o'clock?\n</think>\n\nIt is 7.", settings));
        let chunks = whole(&mut fleet.submit("m", body).await.1).await;
        let is_resumed = chunks.iter().any(|chunk| matches!(chunk, Chunk::Resumed { .. }));
        assert_eq!(
            is_resumed,
            settings.contains("crash"),
            "a worker crashes where the message asks for it: {settings}"
        );
        assert_eq!(reasoning(&chunks), "Is it 6 o'clock?", "{settings}");
        assert_eq!((text(&chunks).as_str(), finished(&chunks)), ("It is 7.", Some(FinishReason::Stop)), "{settings}");
    }
}

#[tokio::test]
async fn gateway_returns_tool_calls_and_reasoning_in_openai_format() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "think", 1, 1).await;
    eventually("the queen knows the model", PATIENCE, async || {
        fleet.status().await.is_some_and(|status| status.models == 1)
    })
    .await;
    let url = format!("{}/v1/chat/completions", fleet.http().await);
    let post = async |body: &Value| {
        let sent = reqwest::Client::new().post(&url).json(body).timeout(PATIENCE).send().await;
        sent.expect("the gateway answers").text().await.expect("a body")
    };
    let two_calls = TWO_CALLS.trim_start_matches("Let me see.\n");
    let mut body = offered(&answered_by(&format!("<think>Hm.</think>{two_calls}"), ""));
    body["model"] = json!("m");
    let whole: Value = serde_json::from_str(&post(&body).await).expect("JSON");
    let (choice, message) = (&whole["choices"][0], &whole["choices"][0]["message"]);
    assert_eq!((&choice["finish_reason"], &message["content"]), (&json!("tool_calls"), &Value::Null), "{whole}");
    assert_eq!(message["reasoning_content"], "Hm.");
    assert_eq!(
        message["tool_calls"][0]["function"],
        json!({ "name": "sun", "arguments": "{\"town\": \"Ulm\", \"days\": 1}" })
    );
    assert_eq!(
        (&message["tool_calls"][1]["type"], message["tool_calls"].as_array().map(Vec::len)),
        (&json!("function"), Some(2))
    );

    body["stream"] = json!(true);
    let events = post(&body).await;
    let data = events.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    let choices: Vec<Value> =
        data.map(|data| serde_json::from_str::<Value>(data).expect("JSON")["choices"][0].clone()).collect();
    let reasoning: String = choices.iter().filter_map(|choice| choice["delta"]["reasoning_content"].as_str()).collect();
    assert_eq!(reasoning, "Hm.");
    let called: Vec<Value> =
        choices.iter().filter_map(|choice| choice["delta"]["tool_calls"].as_array().cloned()).flatten().collect();
    let call = |index: usize| (called[index]["index"].as_u64(), called[index]["function"]["name"].as_str());
    assert_eq!((call(0), call(1), called.len()), ((Some(0), Some("sun")), (Some(1), Some("moon")), 2));
    assert_eq!(choices.last().expect("a last one")["finish_reason"], "tool_calls");

    // The answer and the results of the tools become part of the next request unchanged.
    let mut next = body.clone();
    next["stream"] = json!(false);
    let result =
        |index: usize| json!({ "role": "tool", "tool_call_id": message["tool_calls"][index]["id"], "content": "6:42" });
    let ask = json!({ "role": "user", "content": answered_by("At 6:42.", "") });
    next["messages"] = json!([{ "role": "user", "content": "When?" }, message, result(0), result(1), ask]);
    let whole: Value = serde_json::from_str(&post(&next).await).expect("JSON");
    assert_eq!(whole["choices"][0]["message"]["content"], "At 6:42.", "{whole}");
}

/// The test model with a chat template that supports tools.
fn model_with_tools(folder: &std::path::Path) -> std::path::PathBuf {
    const TEMPLATE: &str = "{% if tools %}{{ '<|im_start|>system\n' }}{{ tools | tojson }}{{ '\nCall: <tool_call>{\"name\": ..., \
        \"arguments\": ...}</tool_call><|im_end|>\n' }}{% endif %}{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + \
        '<|im_end|>\n' }}{% endfor %}{{ '<|im_start|>assistant\n' }}";
    let mut bytes = fs::read(model()).expect("the test model");
    let key = b"tokenizer.chat_template";
    let found = bytes.windows(key.len()).position(|window| window == key).expect("it has a template") + key.len();
    // The type of the value, the length of the text, and the text itself, whose length must not change.
    let length = u64::from_le_bytes(bytes[found + 4..found + 12].try_into().expect("eight bytes")) as usize;
    let padded = format!("{TEMPLATE}{{#{}#}}", " ".repeat(length - TEMPLATE.len() - 4));
    bytes[found + 12..found + 12 + length].copy_from_slice(padded.as_bytes());
    let path = folder.join("tools.gguf");
    fs::write(&path, bytes).expect("written");
    path
}

#[tokio::test]
async fn real_model_calls_a_required_tool_if_its_template_has_tools() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let fleet = Fleet::start().await;
    fleet.serve("tools", ModelSpec::new(ModelReference::File(model_with_tools(folder.path())))).await;
    for seed in 1..=3 {
        let mut body = offered("When does the sun rise in Ulm?");
        (body["tool_choice"], body["seed"], body["temperature"]) = (json!("required"), json!(seed), json!(1.0));
        (body["max_tokens"], body["parallel_tool_calls"]) = (json!(200), json!(false));
        let chunks = whole(&mut fleet.submit("tools", body).await.1).await;
        let called = calls(&chunks);
        assert_eq!((called.len(), text(&chunks).as_str()), (1, ""), "{chunks:?}");
        assert!(fits(&called[0]), "{called:?}");
        assert_eq!(finished(&chunks), Some(FinishReason::ToolCalls));
    }

    fleet.serve("plain", ModelSpec::new(ModelReference::File(model()))).await;
    let chunks = whole(&mut fleet.submit("plain", offered("When?")).await.1).await;
    let refused =
        matches!(chunks.last(), Some(Chunk::Error { error }) if error.message.contains("does not support tools"));
    assert!(refused, "{chunks:?}");
}
