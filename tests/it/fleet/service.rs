//! The NATS service `rbee` as plain clients use it: headers, statistics, and what happens when a client goes away.

use std::time::SystemTime;

use async_nats::{HeaderMap, Message, Subscriber};
use futures::StreamExt as _;
use rbee_nats::recent_events;
use rbee_schema::{Chunk, FailureCode};
use rbee_tests::{
    fleet::{Fleet, chat},
    wait::{PATIENCE, eventually, soon},
};
use serde_json::{Value, json};

/// Requests an answer, and returns the subscription to the replies.
async fn infer(fleet: &Fleet, body: &Value, id: Option<&str>) -> Subscriber {
    let inbox = fleet.bus.client().new_inbox();
    let replies = fleet.bus.subscribe(inbox.clone()).await.expect("subscribed");
    let mut headers = HeaderMap::new();
    if let Some(id) = id {
        headers.insert("Nats-Msg-Id", id);
    }
    let request = body.to_string().into();
    let sent = fleet.bus.client().publish_with_reply_and_headers("rbee.api.infer", inbox, headers, request).await;
    sent.expect("the connection is open");
    replies
}

/// Replies up to the empty one, which is included.
async fn all(replies: &mut Subscriber) -> Vec<Message> {
    let mut all = Vec::new();
    loop {
        let reply = soon("reply", replies.next()).await.expect("a message");
        let is_end = reply.payload.is_empty();
        all.push(reply);
        if is_end {
            return all;
        }
    }
}

fn header<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    message.headers.as_ref()?.get(name).map(|value| value.as_str())
}

fn request(model: &str) -> Value {
    let mut body = chat("Hi");
    body["model"] = json!(model);
    body
}

/// Number of requests and of errors of an endpoint, as the service reports them.
async fn stats(fleet: &Fleet, endpoint: &str) -> (u64, u64) {
    let reply = fleet.bus.client().request("$SRV.STATS.rbee", "".into()).await.expect("the service answers");
    let stats: Value = serde_json::from_slice(&reply.payload).expect("JSON");
    let endpoints = stats["endpoints"].as_array().expect("a list");
    let is_meant = |found: &&Value| found["name"].as_str().is_some_and(|name| name.ends_with(endpoint));
    let found = endpoints.iter().find(is_meant).unwrap_or_else(|| panic!("{endpoint} in {stats}"));
    (found["num_requests"].as_u64().expect("a number"), found["num_errors"].as_u64().expect("a number"))
}

#[tokio::test]
async fn replies_name_the_job_and_failures_are_typed() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=3", 1, 1).await;
    fleet.ready(1).await;
    let answer = all(&mut infer(&fleet, &request("m"), Some("default.mine")).await).await;
    assert!(answer.len() >= 3, "{answer:?}");
    assert!(answer.iter().all(|reply| header(reply, "Rbee-Job-Id") == Some("mine")), "{answer:?}");
    assert!(answer.iter().all(|reply| header(reply, "Nats-Service-Error").is_none()), "{answer:?}");

    for (model, id, code) in
        [("nobody", None, "unknown-model"), ("m", Some("a.b"), "invalid-request"), ("m", Some("mine"), "duplicate-job")]
    {
        let refused = all(&mut infer(&fleet, &request(model), id).await).await;
        let chunk: Chunk = serde_json::from_slice(&refused[0].payload).expect("a chunk");
        assert!(matches!(&chunk, Chunk::Error { error } if error.code.as_str() == code), "{chunk:?}");
        assert!(refused.iter().all(|reply| header(reply, "Nats-Service-Error-Code") == Some(code)), "{refused:?}");
        let job = header(&refused[0], "Rbee-Job-Id").expect("the id of the job");
        eventually("the refusal is an event", PATIENCE, async || {
            let subject = format!("rbee.evt.job.default.{job}.failed");
            recent_events(&fleet.bus, &subject, SystemTime::UNIX_EPOCH).await.is_ok_and(|events| !events.is_empty())
        })
        .await;
    }
    eventually("each request is counted once", PATIENCE, async || stats(&fleet, "infer").await == (4, 3)).await;
}

#[tokio::test]
async fn refused_request_is_counted_as_an_error() {
    let fleet = Fleet::start().await;
    for (operation, body, words) in [
        ("workers", r#"{"afterr":"x"}"#, "unknown field `afterr`, expected `after`"),
        ("model", r#"{"model":"nobody"}"#, "no model `nobody`"),
        ("cancel", r#"{"job":"nope"}"#, "there is no job nope"),
    ] {
        let reply = fleet.bus.client().request(format!("rbee.api.{operation}"), body.into()).await.expect("a reply");
        assert!(header(&reply, "Nats-Service-Error").is_some_and(|error| error.contains(words)), "{reply:?}");
        eventually("it is counted", PATIENCE, async || stats(&fleet, operation).await == (1, 1)).await;
    }
}

#[tokio::test]
async fn job_of_a_requester_that_is_gone_is_cancelled() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=20000,interval=5ms,context=200000", 1, 1).await;
    fleet.ready(1).await;
    let mut body = request("m");
    body["max_tokens"] = json!(20_000);
    let mut replies = infer(&fleet, &body, Some("mine")).await;
    soon("reply", replies.next()).await.expect("a message");
    drop(replies);
    eventually("the job is cancelled", PATIENCE, async || {
        fleet.bus.queue_depths().await.is_ok_and(|depths| depths.is_empty())
    })
    .await;
}

#[tokio::test]
async fn job_whose_time_out_passes_is_cancelled() {
    let mut fleet = Fleet::bare().await;
    fleet.queen_named("queen", "patience=1s").await;
    fleet.serve_mock("m", "tokens=2", 0, 1).await;
    let answer = all(&mut infer(&fleet, &request("m"), Some("mine")).await).await;
    let chunk: Chunk = serde_json::from_slice(&answer[0].payload).expect("a chunk");
    assert!(matches!(&chunk, Chunk::Error { error } if error.code == FailureCode::TimedOut), "{chunk:?}");
    eventually("the job is cancelled", PATIENCE, async || {
        fleet.bus.queue_depths().await.is_ok_and(|depths| depths.is_empty())
    })
    .await;
}
