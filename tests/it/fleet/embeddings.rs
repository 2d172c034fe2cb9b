//! Embeddings of a real model: by job, by request and reply, by HTTP, and by the command line. Every input is embedded once
//! and in order, whichever process is killed meanwhile.

use futures::StreamExt as _;
use rbee_schema::{Chunk, FailureCode, ModelKind, ModelReference, ModelSpec, Replicas};
use rbee_tests::{
    fleet::{Fleet, chat, metric_value, whole},
    tools::encoder,
    wait::{PATIENCE, eventually, soon},
};
use serde_json::{Value, json};

fn spec(min: u32, max: u32) -> ModelSpec {
    let replicas = Replicas { min, max };
    ModelSpec { kind: ModelKind::Embeddings, replicas, ..ModelSpec::new(ModelReference::File(encoder())) }
}

/// The vectors of an answer, each with the index of its input.
fn vectors(chunks: &[Chunk]) -> Vec<(u32, Vec<f32>)> {
    let of = |chunk: &Chunk| match chunk {
        Chunk::Embeddings { index, vectors, .. } => (*index..).zip(vectors.clone()).collect(),
        _ => Vec::new(),
    };
    chunks.iter().flat_map(of).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    product(a, b) / (product(a, a) * product(b, b)).sqrt()
}

fn failure(chunks: &[Chunk]) -> &rbee_schema::Failure {
    match chunks {
        [Chunk::Error { error }] => error,
        other => panic!("a failure and nothing else, not {other:?}"),
    }
}

#[tokio::test]
async fn similar_texts_have_similar_vectors() {
    let fleet = Fleet::start().await;
    fleet.serve("minilm", spec(0, 1)).await;
    let texts = ["The cat sleeps on the sofa.", "A kitten naps on the couch.", "Interest rates were raised again."];
    let (_, mut output) = fleet.submit("minilm", json!({ "input": texts })).await;
    let chunks = whole(&mut output).await;
    let Chunk::Started { prompt_tokens, .. } = chunks[0] else { panic!("{chunks:?}") };
    let Some(Chunk::Done { index: 3, usage, .. }) = chunks.last() else { panic!("{chunks:?}") };
    assert_eq!((usage.prompt_tokens, usage.total_tokens, usage.completion_tokens), (prompt_tokens, prompt_tokens, 0));
    let vectors = vectors(&chunks);
    assert_eq!(
        vectors.iter().map(|(index, vector)| (*index, vector.len())).collect::<Vec<_>>(),
        [(0, 384), (1, 384), (2, 384)]
    );
    let (near, far) = (cosine(&vectors[0].1, &vectors[1].1), cosine(&vectors[0].1, &vectors[2].1));
    assert!(near > 0.5 && far < 0.2, "{near}, {far}");

    let mut worker = fleet.ready(1).await.remove(0);
    eventually("its heartbeat counts the tokens", PATIENCE, async || {
        worker = fleet.ready(1).await.remove(0);
        worker.tokens == u64::from(prompt_tokens)
    })
    .await;
    let port = worker.record.port.expect("it serves metrics");
    let url = format!("http://127.0.0.1:{port}/metrics");
    assert_eq!(metric_value(&url, "rbee_worker_embeddings_total").await, 3.0);
}

#[tokio::test]
async fn openai_client_gets_the_same_vectors_as_a_bus_client() {
    let fleet = Fleet::start().await;
    fleet.serve("minilm", spec(1, 1)).await;
    let texts = ["The cat sleeps on the sofa.", "Interest rates were raised again."];
    let expected = vectors(&whole(&mut fleet.submit("minilm", json!({ "input": texts })).await.1).await);
    let url = format!("{}/v1/embeddings", fleet.http().await);
    let post = async |body: Value| {
        let sent = reqwest::Client::new().post(&url).json(&body).timeout(PATIENCE).send().await.expect("it answers");
        (sent.status().as_u16(), sent.json::<Value>().await.expect("JSON"))
    };
    let (status, answer) = post(json!({ "model": "minilm", "input": texts })).await;
    assert_eq!((status, &answer["object"], &answer["model"]), (200, &json!("list"), &json!("minilm")), "{answer}");
    assert!(answer["usage"]["prompt_tokens"].as_u64().is_some_and(|tokens| tokens > 0), "{answer}");
    let found = answer["data"].as_array().expect("a list").iter().map(|item| {
        let vector: Vec<f32> = serde_json::from_value(item["embedding"].clone()).expect("numbers");
        (item["index"].as_u64().expect("an index") as u32, vector)
    });
    assert_eq!(found.collect::<Vec<_>>(), expected, "the same bits");

    let (_, answer) = post(json!({ "model": "minilm", "input": texts[0], "encoding_format": "base64" })).await;
    assert!(answer["data"][0]["embedding"].as_str().is_some_and(|text| text.len() == 384 * 4 / 3 * 4), "{answer}");
    for (body, status, code) in [
        (json!({ "model": "minilm", "messages": [{ "role": "user", "content": "Hi" }] }), 400, "invalid-request"),
        (json!({ "model": "nobody", "input": "Hi" }), 404, "unknown-model"),
        (json!({ "input": "Hi" }), 400, "invalid-request"),
    ] {
        let (found, answer) = post(body).await;
        assert_eq!((found, answer["error"]["code"].as_str()), (status, Some(code)), "{answer}");
    }
}

#[tokio::test]
async fn killed_workers_job_resumes_without_losing_or_repeating_vectors() {
    let fleet = Fleet::start().await;
    fleet.serve("minilm", spec(2, 2)).await;
    fleet.ready(2).await;
    let texts: Vec<String> =
        (0..60).map(|number| format!("bees dance number {number}: {}", "buzz ".repeat(100))).collect();
    let (_, mut undisturbed) = fleet.submit("minilm", json!({ "input": texts })).await;
    let expected = vectors(&whole(&mut undisturbed).await);
    assert_eq!(expected.len(), 60);

    let (_, mut output) = fleet.submit("minilm", json!({ "input": texts })).await;
    let mut chunks = Vec::new();
    for kill_at in [4, 20] {
        while vectors(&chunks).len() < kill_at {
            chunks.push(output.next(PATIENCE).await.expect("the answer continues").expect("it has no end yet").chunk);
        }
        let workers = fleet.workers().await;
        fleet.kill(workers.iter().find(|worker| !worker.jobs.is_empty()).expect("a worker runs the job"));
    }
    chunks.extend(whole(&mut output).await);
    assert_eq!(chunks.iter().filter(|chunk| matches!(chunk, Chunk::Resumed { .. })).count(), 2);
    assert!(matches!(chunks.last(), Some(Chunk::Done { index: 60, .. })), "{:?}", chunks.last());
    assert!(vectors(&chunks) == expected, "every index once and in order, with the same bits");
}

#[tokio::test]
async fn encoding_and_dimensions_apply_and_tokens_are_accepted_as_input() {
    let fleet = Fleet::start().await;
    fleet.serve("minilm", spec(1, 1)).await;
    let answer = async |body: Value| whole(&mut fleet.submit("minilm", body).await.1).await;
    let all = vectors(&answer(json!({ "input": "Bees dance." })).await).remove(0).1;
    // The tokens of that text.
    let of_tokens = answer(json!({ "input": [13734, 3153, 1012] })).await;
    assert_eq!(vectors(&of_tokens), [(0, all.clone())]);

    let cut = vectors(&answer(json!({ "input": "Bees dance.", "dimensions": 64 })).await).remove(0).1;
    assert_eq!(cut.len(), 64);
    assert!(cosine(&cut, &all[..64]) > 0.999_999);
    let length: f32 = cut.iter().map(|number| number * number).sum();
    assert!((length - 1.0).abs() < 1e-5, "{length}");

    let in_base64 = answer(json!({ "input": ["Bees dance."], "encoding_format": "base64" })).await;
    let written = in_base64.iter().find_map(|chunk| match chunk {
        Chunk::Embeddings { vectors, base64, .. } if vectors.is_empty() => base64.first(),
        _ => None,
    });
    // Base64 has four letters for three bytes, and a number has four bytes.
    assert_eq!(written.map(String::len), Some(384 * 4 / 3 * 4));
}

#[tokio::test]
async fn unanswerable_embedding_requests_are_refused_one_by_one() {
    let fleet = Fleet::start().await;
    fleet.serve("minilm", spec(1, 1)).await;
    fleet.serve_mock("mock", "tokens=3", 1, 1).await;
    for (model, body, words) in [
        ("minilm", chat("Hi"), "the body is a chat with `messages`"),
        ("mock", json!({ "input": "Hi" }), "the body asks for embeddings with `input`"),
        ("minilm", json!({ "input": [] }), "input is empty"),
        ("minilm", json!({ "input": [99999999] }), "input has the token 99999999"),
        ("minilm", json!({ "input": "Hi", "dimensions": 385 }), "the model's vectors have 384"),
    ] {
        let chunks = whole(&mut fleet.submit(model, body).await.1).await;
        let Some(Chunk::Error { error }) = chunks.last() else { panic!("{words}: {chunks:?}") };
        assert!(error.code == FailureCode::InvalidRequest && error.message.contains(words), "{words}: {error}");
    }
    let chunks = whole(&mut fleet.submit("minilm", json!({ "input": "Hi" })).await.1).await;
    assert_eq!(vectors(&chunks).len(), 1);
    let chunks = whole(&mut fleet.submit("mock", chat("Hi")).await.1).await;
    assert!(matches!(chunks.last(), Some(Chunk::Done { index: 3, .. })), "{chunks:?}");
}

/// The chunks with which the service replies.
async fn ask(fleet: &Fleet, operation: &str, body: &Value) -> Vec<Chunk> {
    let client = fleet.bus.client();
    let inbox = client.new_inbox();
    let mut replies = client.subscribe(inbox.clone()).await.expect("subscribes");
    let subject = format!("rbee.api.{operation}");
    client.publish_with_reply(subject, inbox, body.to_string().into()).await.expect("publishes");
    let mut chunks = Vec::new();
    loop {
        let reply = soon("reply", replies.next()).await.expect("the connection is open");
        if reply.payload.is_empty() {
            return chunks;
        }
        chunks.push(serde_json::from_slice(&reply.payload).expect("a chunk"));
    }
}

#[tokio::test]
async fn request_to_a_model_of_another_kind_is_refused() {
    let fleet = Fleet::start().await;
    fleet.serve("minilm", spec(0, 1)).await;
    fleet.serve_mock("mock", "tokens=3", 0, 1).await;
    let chunks = ask(&fleet, "embed", &json!({ "model": "minilm", "input": ["one", "two"] })).await;
    assert_eq!(vectors(&chunks).len(), 2);
    assert!(matches!(chunks.last(), Some(Chunk::Done { index: 2, .. })), "{chunks:?}");

    let hi = chat("Hi")["messages"].clone();
    for (operation, body, words) in [
        ("embed", json!({ "model": "mock", "input": "Hi" }), "mock is a chat model and computes no embeddings"),
        ("infer", json!({ "model": "minilm", "messages": hi }), "minilm is an embedding model and answers no chats"),
        ("embed", json!({ "model": "minilm", "messages": hi }), "the body is a chat"),
        ("infer", json!({ "model": "minilm", "input": "Hi" }), "the body asks for embeddings"),
        ("embed", json!({ "input": "Hi" }), "model is missing"),
    ] {
        let chunks = ask(&fleet, operation, &body).await;
        assert!(failure(&chunks).message.contains(words), "{words}: {chunks:?}");
    }
}

#[tokio::test]
async fn command_line_serves_an_embedding_model_and_prints_vectors() {
    let fleet = Fleet::start().await;
    let folder = encoder().display().to_string();
    let served = fleet.rbee(&["serve", "minilm", &folder, "--kind", "embeddings"]).await;
    assert!(served.status.success(), "{served:?}");
    let printed = fleet.rbee(&["embed", "minilm", "one text", "another"]).await;
    assert!(printed.status.success(), "{printed:?}");
    let document: Value = serde_json::from_slice(&printed.stdout).expect("JSON");
    assert_eq!((&document["object"], &document["model"]), (&json!("list"), &json!("minilm")));
    let data = document["data"].as_array().expect("a list");
    assert_eq!(data.iter().map(|one| &one["index"]).collect::<Vec<_>>(), [&json!(0), &json!(1)]);
    assert!(data.iter().all(|one| one["embedding"].as_array().is_some_and(|vector| vector.len() == 384)));
    assert!(document["usage"]["total_tokens"].as_u64().is_some_and(|tokens| tokens == 7), "{document}");

    let refused = fleet.rbee(&["run", "minilm", "Hi"]).await;
    let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && stderr.contains("name a chat model"), "{stderr}");
}

#[tokio::test]
async fn embedding_model_declared_as_a_text_model_is_refused() {
    let fleet = Fleet::start().await;
    fleet.serve("minilm", ModelSpec::new(ModelReference::File(encoder()))).await;
    let chunks = whole(&mut fleet.submit("minilm", chat("Hi")).await.1).await;
    let error = failure(&chunks);
    assert!(error.code == FailureCode::ModelUnsupported && error.message.contains("--kind embeddings"), "{error}");
}
