//! Sampling options of a request: probabilities, ends, biases and penalties.

use rbee_schema::{Chunk, FinishReason, TokenLogprob};
use rbee_tests::{
    fleet::{Fleet, chat, text, tokens, whole},
    wait::PATIENCE,
};
use serde_json::{Value, json};

async fn answer(fleet: &Fleet, options: &Value) -> Vec<Chunk> {
    let mut body = chat("Hi");
    body["seed"] = json!(7);
    for (name, value) in options.as_object().expect("an object") {
        body[name] = value.clone();
    }
    whole(&mut fleet.submit("m", body).await.1).await
}

fn ids(chunks: &[Chunk]) -> Vec<u32> {
    tokens(chunks).into_iter().map(|(_, id)| id).collect()
}

fn logprobs(chunks: &[Chunk]) -> Vec<TokenLogprob> {
    let of = |chunk: &Chunk| match chunk {
        Chunk::Tokens { logprobs, .. } => logprobs.clone(),
        _ => Vec::new(),
    };
    chunks.iter().flat_map(of).collect()
}

fn finish(chunks: &[Chunk]) -> FinishReason {
    match chunks.last() {
        Some(Chunk::Done { finish_reason, .. }) => *finish_reason,
        other => panic!("the answer is complete, not {other:?}"),
    }
}

#[tokio::test]
async fn tokens_have_logprobs_only_on_request() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=200", 1, 1).await;
    let plain = answer(&fleet, &json!({})).await;
    assert!(logprobs(&plain).is_empty());
    let asked = answer(&fleet, &json!({ "logprobs": true, "top_logprobs": 3 })).await;
    assert_eq!(ids(&asked), ids(&plain), "logprobs change no token");
    let logprobs = logprobs(&asked);
    assert_eq!(logprobs.iter().map(|logprob| logprob.token.id).collect::<Vec<_>>(), ids(&asked));
    assert!(logprobs.iter().all(|logprob| logprob.top.len() == 3 && logprob.top[0] == logprob.token));
    let bytes: Vec<u8> = logprobs.iter().flat_map(|logprob| logprob.token.bytes()).copied().collect();
    assert_eq!(String::from_utf8_lossy(&bytes), text(&asked), "also where a character is split");
}

#[tokio::test]
async fn answer_ends_where_the_request_says() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=6", 1, 1).await;
    let plain = answer(&fleet, &json!({})).await;
    let last = ids(&plain)[5];
    let first = ids(&plain).iter().position(|id| *id == last).expect("it exists");

    let stopped = answer(&fleet, &json!({ "stop_token_ids": [last] })).await;
    assert_eq!((ids(&stopped), finish(&stopped)), (ids(&plain)[..first].to_vec(), FinishReason::Stop));

    let endless = answer(&fleet, &json!({ "ignore_eos": true, "max_tokens": 20 })).await;
    assert_eq!((ids(&endless).len(), finish(&endless)), (20, FinishReason::Length));
    assert_eq!(text(&endless), text(&plain), "the end itself has no text");

    let later = answer(&fleet, &json!({ "min_tokens": 9 })).await;
    assert_eq!((ids(&later).len(), finish(&later)), (9, FinishReason::Stop));
}

#[tokio::test]
async fn bias_and_penalty_change_the_chosen_token() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=20", 1, 1).await;
    let plain = ids(&answer(&fleet, &json!({})).await);
    let without = ids(&answer(&fleet, &json!({ "logit_bias": { plain[0].to_string(): -100 } })).await);
    assert!(!without.contains(&plain[0]), "{without:?}");
    let always = ids(&answer(&fleet, &json!({ "logit_bias": { "65": 100 }, "max_tokens": 5 })).await);
    assert_eq!(always, [65; 5]);
    let penalised = json!({ "logit_bias": { "65": 30 }, "frequency_penalty": 2, "max_tokens": 20, "ignore_eos": true });
    let varied = ids(&answer(&fleet, &penalised).await);
    assert!(
        varied[..9].iter().all(|id| *id == 65),
        "the bias of 30 loses 2 with each token, against 10 of the others: {varied:?}"
    );
    assert!(varied[12..].iter().any(|id| *id != 65), "{varied:?}");
}

#[tokio::test]
async fn penalties_and_logprobs_survive_the_death_of_a_worker() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=60,interval=20ms", 2, 2).await;
    fleet.ready(2).await;
    let options =
        json!({ "logprobs": true, "frequency_penalty": 2, "presence_penalty": 2, "logit_bias": { "65": 11 } });
    let expected = answer(&fleet, &options).await;

    let mut body = chat("Hi");
    body["seed"] = json!(7);
    for (name, value) in options.as_object().expect("an object") {
        body[name] = value.clone();
    }
    let (_, mut output) = fleet.submit("m", body).await;
    let mut chunks = Vec::new();
    while tokens(&chunks).len() < 10 {
        chunks.push(output.next(PATIENCE).await.expect("the answer continues").expect("it has no end yet").chunk);
    }
    let workers = fleet.workers().await;
    fleet.kill(workers.iter().find(|worker| !worker.jobs.is_empty()).expect("a worker runs the job"));
    chunks.extend(whole(&mut output).await);
    assert!(chunks.iter().any(|chunk| matches!(chunk, Chunk::Resumed { .. })));
    assert_eq!(ids(&chunks), ids(&expected));
    assert_eq!(logprobs(&chunks), logprobs(&expected));
}
