//! The HTTP gateway, as an OpenAI client uses it.

use async_nats::jetstream::stream::Config;
use futures::StreamExt as _;
use rbee_tests::{
    fleet::{Fleet, chat},
    wait::{PATIENCE, eventually},
};
use reqwest::{Client, Response};
use serde_json::{Value, json};

async fn post(fleet: &Fleet, body: &Value) -> Response {
    let url = format!("{}/v1/chat/completions", fleet.http().await);
    let sent = Client::new().post(url).json(body).timeout(PATIENCE).send().await;
    sent.expect("the gateway answers")
}

fn request(options: &str) -> Value {
    let mut body = chat(options);
    body["model"] = json!("m");
    body["seed"] = json!(1);
    body
}

async fn fleet_with_model() -> Fleet {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=6", 0, 1).await;
    eventually("the queen knows the model", PATIENCE, async || {
        fleet.status().await.is_some_and(|status| status.models == 1)
    })
    .await;
    fleet
}

#[tokio::test]
async fn streamed_chat_has_the_same_text_as_a_whole_one() {
    let fleet = fleet_with_model().await;
    let whole: Value = post(&fleet, &request("Hi")).await.json().await.expect("JSON");
    assert_eq!(whole["object"], "chat.completion");
    assert_eq!(whole["usage"]["completion_tokens"], 6);
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");

    let mut streamed = request("Hi");
    streamed["stream"] = json!(true);
    streamed["stream_options"] = json!({ "include_usage": true });
    let events = post(&fleet, &streamed).await.text().await.expect("a body");
    let data: Vec<&str> = events.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(data.last(), Some(&"[DONE]"));
    let objects: Vec<Value> =
        data[..data.len() - 1].iter().map(|data| serde_json::from_str(data).expect("JSON")).collect();
    let text: String = objects.iter().filter_map(|object| object["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(whole["choices"][0]["message"]["content"], text);
    assert_eq!(objects[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(objects.last().expect("an object")["usage"]["completion_tokens"], 6);
}

#[tokio::test]
async fn gateway_returns_logprobs_in_openai_format() {
    let fleet = fleet_with_model().await;
    let mut body = request("Hi");
    body["logprobs"] = json!(true);
    body["top_logprobs"] = json!(2);
    let whole: Value = post(&fleet, &body).await.json().await.expect("JSON");
    let content = whole["choices"][0]["logprobs"]["content"].as_array().expect("one for each token").clone();
    assert_eq!(content.len(), 6);
    for token in &content {
        assert!(token["logprob"].as_f64().is_some_and(|logprob| logprob < 0.0), "{token}");
        assert_eq!(token["top_logprobs"].as_array().map(Vec::len), Some(2));
        assert_eq!(token["top_logprobs"][0]["bytes"], token["bytes"]);
    }

    body["stream"] = json!(true);
    let events = post(&fleet, &body).await.text().await.expect("a body");
    let data = events.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    let objects = data.map(|data| serde_json::from_str::<Value>(data).expect("JSON"));
    let of = |object: Value| object["choices"][0]["logprobs"]["content"].as_array().cloned().unwrap_or_default();
    assert_eq!(objects.flat_map(of).collect::<Vec<Value>>(), content);
}

#[tokio::test]
async fn each_choice_is_the_answer_of_its_own_seed() {
    let fleet = fleet_with_model().await;
    let mut one = request("Hi");
    let mut expected = Vec::new();
    for seed in 1..=3 {
        one["seed"] = json!(seed);
        let whole: Value = post(&fleet, &one).await.json().await.expect("JSON");
        expected.push(whole["choices"][0]["message"]["content"].as_str().expect("a text").to_owned());
    }
    assert!(expected[0] != expected[1] && expected[1] != expected[2], "seeds differ: {expected:?}");
    let mut three = request("Hi");
    three["n"] = json!(3);
    let whole: Value = post(&fleet, &three).await.json().await.expect("JSON");
    let choices = whole["choices"].as_array().expect("a list").iter();
    let answers =
        choices.map(|choice| (choice["index"].as_u64(), choice["message"]["content"].as_str().map(str::to_owned)));
    let numbered: Vec<_> = (0..).map(Some).zip(expected.iter().cloned().map(Some)).collect();
    assert_eq!(answers.collect::<Vec<_>>(), numbered, "{whole}");
    assert_eq!(whole["usage"]["completion_tokens"], 18);

    three["stream"] = json!(true);
    three["stream_options"] = json!({ "include_usage": true });
    let events = post(&fleet, &three).await.text().await.expect("a body");
    let data: Vec<&str> = events.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(data.iter().filter(|data| **data == "[DONE]").count(), 1);
    let objects: Vec<Value> =
        data[..data.len() - 1].iter().map(|data| serde_json::from_str(data).expect("JSON")).collect();
    for (index, expected) in expected.iter().enumerate() {
        let own = objects.iter().map(|object| &object["choices"][0]).filter(|choice| choice["index"] == index);
        let text: String = own.filter_map(|choice| choice["delta"]["content"].as_str()).collect();
        assert_eq!(text, *expected);
    }
    assert_eq!(objects.last().expect("an object")["usage"]["completion_tokens"], 18);

    three["n"] = json!(9);
    let refused = post(&fleet, &three).await;
    assert_eq!(refused.status(), 400);
    assert!(refused.text().await.expect("a body").contains("at most 8"));
}

#[tokio::test]
async fn gateway_lists_models_and_reports_health() {
    let fleet = fleet_with_model().await;
    let url = fleet.http().await;
    let models: Value = reqwest::get(format!("{url}/v1/models")).await.expect("it answers").json().await.expect("JSON");
    assert_eq!(models["data"][0]["id"], "m");
    assert_eq!(reqwest::get(format!("{url}/healthz")).await.expect("it answers").status(), 200);
    assert_eq!(reqwest::get(format!("{url}/nowhere")).await.expect("it answers").status(), 404);
}

#[tokio::test]
async fn gateway_returns_errors_in_openai_format() {
    let fleet = fleet_with_model().await;
    let mut unknown = request("Hi");
    unknown["model"] = json!("gpt-4");
    let mut empty = request("Hi");
    empty["messages"] = json!([]);
    let mut without_model = request("Hi");
    without_model.as_object_mut().expect("an object").remove("model");
    let mut greedy = request("Hi");
    greedy["max_tokens"] = json!(10_000_000);
    fleet.limit_bus("body_size=1MiB").await;
    let large = request(&"x".repeat(2 << 20));
    let long = request(&"x".repeat(600 << 10));
    for (body, status, code) in [
        (unknown, 404, "unknown-model"),
        (empty, 400, "invalid-request"),
        (without_model, 400, "invalid-request"),
        (greedy, 400, "context-exceeded"),
        (large, 413, "body-too-large"),
        (long, 400, "context-exceeded"),
        (json!("no object"), 400, "invalid-request"),
    ] {
        let response = post(&fleet, &body).await;
        let found = response.status().as_u16();
        let error: Value = response.json().await.expect("JSON");
        assert_eq!((found, error["error"]["code"].as_str()), (status, Some(code)), "{error}");
        assert!(error["error"]["message"].as_str().is_some_and(|message| message.len() > 20), "{error}");
    }
}

#[tokio::test]
async fn job_of_a_disconnected_http_client_is_cancelled() {
    let fleet = fleet_with_model().await;
    let mut endless = request("mock: tokens=20000 interval=5ms");
    endless["stream"] = json!(true);
    endless["max_tokens"] = json!(20_000);
    let mut events = post(&fleet, &endless).await.bytes_stream();
    events.next().await.expect("the stream begins").expect("it is read");
    drop(events);
    eventually("the job has left the queue", PATIENCE, async || {
        fleet.bus.queue_depths().await.is_ok_and(|depths| depths.is_empty())
    })
    .await;
}

#[tokio::test]
async fn full_queue_is_refused_with_the_time_of_the_next_try() {
    let mut fleet = Fleet::bare().await;
    fleet.queen().await;
    fleet.serve_mock("m", "", 0, 1).await;
    let stream = fleet.bus.jetstream().get_stream("rbee_jobs").await.expect("the stream exists");
    let small = Config { max_messages_per_subject: 1, ..stream.cached_info().config.clone() };
    fleet.bus.jetstream().update_stream(small).await.expect("the server accepts the change");
    fleet.submit("m", chat("Hi")).await;
    let response = post(&fleet, &request("Hi")).await;
    assert_eq!(response.status(), 429);
    let seconds = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    assert!(seconds.is_some_and(|seconds| seconds > 0), "{response:?}");
}

#[tokio::test]
async fn stopping_queen_lets_streams_end_and_plans_for_them() {
    let mut fleet = Fleet::bare().await;
    fleet.queen().await;
    fleet.serve_mock("m", "tokens=6", 0, 1).await;
    fleet.declared(&["m"]).await;
    let mut streamed = request("Hi");
    streamed["stream"] = json!(true);
    let events = post(&fleet, &streamed).await;
    // Its model has no worker yet, and only a queen that plans starts one.
    fleet.signal_role("queen", "TERM");
    eventually("the queen takes no more requests", PATIENCE, async || {
        reqwest::get(format!("{}/healthz", fleet.http().await)).await.is_err()
    })
    .await;
    let ports = fleet.ports.range();
    let data = fleet.folder().join("one").display().to_string();
    let mut hive = fleet.command();
    hive.args(["hive", "--name", "one", "--ports", &ports, "--data", &data]);
    fleet.launch("one", hive);
    let text = events.text().await.expect("a body");
    assert!(text.trim_end().ends_with("data: [DONE]") && !text.contains("error"), "{text}");
    assert_eq!(fleet.exit_code("queen").await, Some(0));
}

#[tokio::test]
async fn stream_that_outlives_its_queen_ends_with_a_typed_error() {
    let mut fleet = Fleet::bare().await;
    fleet.queen_named("queen", "shutdown=100ms").await;
    fleet.serve_mock("m", "tokens=6", 0, 1).await;
    let mut streamed = request("Hi");
    streamed["stream"] = json!(true);
    let events = post(&fleet, &streamed).await;
    fleet.signal_role("queen", "TERM");
    let text = events.text().await.expect("a body");
    assert!(text.contains("shutting-down") && text.trim_end().ends_with("data: [DONE]"), "{text}");
    assert_eq!(fleet.exit_code("queen").await, Some(0));
    // The job was cancelled, and the next queen carries that out.
    fleet.queen().await;
    eventually("the job has left the queue", PATIENCE, async || {
        fleet.bus.queue_depths().await.is_ok_and(|depths| depths.is_empty())
    })
    .await;
}
