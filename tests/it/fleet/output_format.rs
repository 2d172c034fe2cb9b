//! Answers with an output format: JSON Schema, regular expressions, grammars and choices.

use rbee_schema::{Chunk, FailureCode, FinishReason, ModelReference, ModelSpec, Replicas};
use rbee_tests::{
    fleet::{Fleet, chat, text, tokens, whole},
    tools::model,
    wait::PATIENCE,
};
use serde_json::{Value, json};

fn request(format: &Value) -> Value {
    let mut body = chat("Hi");
    body["seed"] = json!(7);
    body.as_object_mut().expect("an object").extend(format.as_object().expect("an object").clone());
    body
}

fn person() -> Value {
    let schema = json!({
        "type": "object",
        "properties": { "name": { "type": "string" }, "friends": { "type": "array", "items": { "type": "string" } } },
        "required": ["name", "friends"],
        "additionalProperties": false,
    });
    json!({ "response_format": { "type": "json_schema", "json_schema": { "name": "person", "schema": schema } } })
}

/// True for the JSON text of a [`person`].
fn is_person(text: &str) -> bool {
    let read: Value = serde_json::from_str(text).unwrap_or_default();
    read["name"].is_string() && read["friends"].is_array() && read.as_object().is_some_and(|object| object.len() == 2)
}

#[tokio::test]
async fn answer_has_the_requested_output_format() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=30", 1, 1).await;
    let choice = json!({ "structured_outputs": { "choice": ["yes", "no"] } });
    let date = json!({ "structured_outputs": { "regex": "[0-9]{4}-[0-9]{2}" } });
    let sum = json!({ "structured_outputs": { "grammar": "start: NUMBER (\"+\" NUMBER)+\nNUMBER: /[0-9]+/" } });
    let object = json!({ "response_format": { "type": "json_object" } });
    type Has = fn(&str) -> bool;
    let checks: [(Value, Has); 5] = [
        (person(), is_person),
        (object, |text| serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object())),
        (choice, |text| text == "yes" || text == "no"),
        (date, |text| text.len() == 7 && text.as_bytes()[4] == b'-'),
        (sum, |text| text.split('+').filter(|number| number.parse::<f64>().is_ok()).count() >= 2),
    ];
    for (format, has_it) in checks {
        let chunks = whole(&mut fleet.submit("m", request(&format)).await.1).await;
        assert!(has_it(&text(&chunks)), "{format}: {:?}", text(&chunks));
        assert!(matches!(chunks.last(), Some(Chunk::Done { finish_reason: FinishReason::Stop, .. })), "{format}");
    }
}

#[tokio::test]
async fn real_model_follows_a_json_schema_with_any_seed() {
    let fleet = Fleet::start().await;
    fleet.serve("smollm2", ModelSpec::new(ModelReference::File(model()))).await;
    let schema = json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "maxLength": 20 },
            "legs": { "type": "integer", "minimum": 0, "maximum": 100 },
            "colours": { "type": "array", "items": { "enum": ["black", "yellow", "brown"] }, "minItems": 1, "maxItems": 3 },
        },
        "required": ["name", "legs", "colours"],
        "additionalProperties": false,
    });
    let format =
        json!({ "response_format": { "type": "json_schema", "json_schema": { "name": "insect", "schema": schema } } });
    for seed in 1..=5 {
        let mut body = request(&format);
        body["messages"][0]["content"] = json!("Describe an insect.");
        (body["seed"], body["temperature"], body["max_tokens"]) = (json!(seed), json!(1.3), json!(300));
        let chunks = whole(&mut fleet.submit("smollm2", body).await.1).await;
        let read: Value =
            serde_json::from_str(&text(&chunks)).unwrap_or_else(|error| panic!("{error}: {}", text(&chunks)));
        assert!(read["name"].as_str().is_some_and(|name| name.chars().count() <= 20), "{read}");
        assert!(read["legs"].as_u64().is_some_and(|legs| legs <= 100), "{read}");
        assert!(read["colours"].as_array().is_some_and(|colours| (1..=3).contains(&colours.len())), "{read}");
        assert_eq!(read.as_object().map(|object| object.len()), Some(3), "{read}");
        assert!(matches!(chunks.last(), Some(Chunk::Done { finish_reason: FinishReason::Stop, .. })), "seed {seed}");
    }
}

#[tokio::test]
async fn invalid_output_format_is_refused_before_the_job_runs() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "", 1, 1).await;
    for (format, words) in [
        (json!({ "structured_outputs": { "regex": "a(" } }), "cannot be used"),
        (json!({ "structured_outputs": { "grammar": "start: nothing" } }), "nothing"),
        (json!({ "structured_outputs": { "json": { "type": "bee" } } }), "bee"),
    ] {
        let chunks = whole(&mut fleet.submit("m", request(&format)).await.1).await;
        let [Chunk::Error { error }] = chunks.as_slice() else { panic!("an error alone for {format}, not {chunks:?}") };
        assert!(error.code == FailureCode::InvalidRequest && error.message.contains(words), "{error}");
    }
}

#[tokio::test]
async fn output_format_survives_the_death_of_a_worker() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=60,interval=20ms", 2, 2).await;
    fleet.ready(2).await;
    let expected = whole(&mut fleet.submit("m", request(&person())).await.1).await;

    let chunks = answer_with_a_kill(&fleet, "m", request(&person())).await;
    assert!(is_person(&text(&chunks)), "{}", text(&chunks));
    assert_eq!(tokens(&chunks), tokens(&expected));
}

#[tokio::test]
async fn output_format_of_a_real_model_survives_the_death_of_a_worker() {
    let fleet = Fleet::start().await;
    let mut spec = ModelSpec::new(ModelReference::File(model()));
    spec.replicas = Replicas { min: 2, max: 2 };
    fleet.serve("smollm2", spec).await;
    fleet.ready(2).await;
    let mut body = request(&json!({ "structured_outputs": { "regex": "([a-z]{2,9} ){40}end" } }));
    (body["temperature"], body["max_tokens"]) = (json!(1.2), json!(500));
    let expected = whole(&mut fleet.submit("smollm2", body.clone()).await.1).await;
    let chunks = answer_with_a_kill(&fleet, "smollm2", body).await;
    assert!(text(&chunks).ends_with(" end") && text(&chunks).split(' ').count() == 41, "{}", text(&chunks));
    assert_eq!(tokens(&chunks), tokens(&expected));
}

/// The answer to a job whose worker is killed when the answer has 25 tokens.
async fn answer_with_a_kill(fleet: &Fleet, model: &str, body: Value) -> Vec<Chunk> {
    let (_, mut output) = fleet.submit(model, body).await;
    let mut chunks = Vec::new();
    while tokens(&chunks).len() < 25 {
        chunks.push(output.next(PATIENCE).await.expect("the answer continues").expect("it has no end yet").chunk);
    }
    let workers = fleet.workers().await;
    fleet.kill(workers.iter().find(|worker| !worker.jobs.is_empty()).expect("a worker runs the job"));
    chunks.extend(whole(&mut output).await);
    assert!(chunks.iter().any(|chunk| matches!(chunk, Chunk::Resumed { .. })));
    chunks
}
