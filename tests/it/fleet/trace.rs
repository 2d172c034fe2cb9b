//! One trace tells what became of a job, across every process that had to do with it.

use std::{collections::BTreeSet, fs};

use futures::StreamExt as _;
use rbee_nats::Message;
use rbee_tests::{
    collector::{Collector, Span},
    fleet::{Fleet, chat},
    wait::{PATIENCE, eventually, soon},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn traceparent() -> String {
    format!("00-{TRACE}-{PARENT}-01")
}

/// What another tracing system has written beside it.
const BESIDE: &str = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE";

/// Publishes a job for `m` as any client of NATS does.
async fn publish(fleet: &Fleet, traceparent: Option<&str>) {
    publish_for("m", fleet, traceparent).await;
}

async fn publish_for(model: &str, fleet: &Fleet, traceparent: Option<&str>) {
    let mut headers = async_nats::HeaderMap::new();
    if let Some(traceparent) = traceparent {
        headers.insert("traceparent", traceparent);
        headers.insert("tracestate", BESIDE);
    }
    let (subject, body) = (format!("rbee.submit.{model}"), chat("Hi").to_string().into());
    let stored = fleet.bus.jetstream().publish_with_headers(subject, headers, body).await;
    stored.expect("the server answers").await.expect("stored");
}

fn header(message: &Message) -> Option<String> {
    Some(message.headers.as_ref()?.get("traceparent")?.to_string())
}

fn beside(message: &Message) -> Option<String> {
    Some(message.headers.as_ref()?.get("tracestate")?.to_string())
}

async fn next(subscriber: &mut rbee_nats::Subscriber, what: &str) -> Message {
    soon(what, subscriber.next()).await.expect("the connection stands")
}

async fn exporting(collector: &Collector) -> Fleet {
    let mut fleet = Fleet::bare().await;
    fleet.set_variable("RBEE_OTLP", &collector.url);
    fleet.queen().await;
    let ports = fleet.ports.range();
    fleet.hive("one", &ports).await;
    fleet
}

#[tokio::test]
async fn one_trace_shows_how_a_job_was_placed_spawned_loaded_and_answered() {
    let mut collector = Collector::start().await;
    let fleet = exporting(&collector).await;
    fleet.serve_mock("m", "tokens=3", 0, 1).await;
    publish(&fleet, Some(&traceparent())).await;
    let mut found = Vec::new();
    for (service, name) in
        [("rbee-queen", "place"), ("rbee-hive", "spawn"), ("rbee-worker", "load"), ("rbee-worker", "job")]
    {
        let matches = |span: &Span| span.service == service && span.name == name && span.trace == TRACE;
        found.push(collector.span(&format!("span {name} of {service}"), matches).await);
    }
    let [place, spawn, load, job] = found.as_slice() else { panic!("four spans: {found:?}") };
    assert_eq!(place.parent, PARENT, "the order follows from the job");
    assert_eq!(spawn.parent, place.id, "the spawn follows from the order");
    assert_eq!(load.parent, spawn.id, "the load follows from the spawn");
    assert_eq!(job.parent, PARENT, "the answer follows from the job");
    for step in ["leased a port and started the process", "ready"] {
        assert!(spawn.events.iter().any(|found| found == step), "{step}: {:?}", spawn.events);
    }
    let steps: Vec<&str> = job.events.iter().map(String::as_str).collect();
    assert_eq!(steps, ["received a job", "claimed", "prompt rendered", "first token", "done"]);
    for said in ["job", "model", "tenant", "worker"] {
        assert!(job.attributes.contains_key(said), "{said}: {:?}", job.attributes);
    }
}

#[tokio::test]
async fn a_spawn_by_request_and_a_refused_job_stand_in_the_trace_of_who_asked() {
    let mut collector = Collector::start().await;
    let fleet = exporting(&collector).await;
    fleet.serve_mock("m", "tokens=1", 0, 1).await;
    eventually("the model is known", PATIENCE, async || fleet.status().await.is_some_and(|status| status.models == 1))
        .await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("traceparent", traceparent());
    let body = r#"{"model":"m"}"#.into();
    let asked = fleet.bus.client().request_with_headers("rbee.api.spawn", headers, body).await;
    let answer = String::from_utf8_lossy(&asked.expect("the queen answers").payload).into_owned();
    assert!(!answer.contains("error"), "{answer}");
    let mut span = async |name: &str, parent: &str| {
        let matches = |span: &Span| span.name == name && span.trace == TRACE && span.parent == parent;
        collector.span(&format!("span {name} after {parent}"), matches).await
    };
    let command = span("command", PARENT).await;
    assert_eq!(command.attributes.get("operation").map(String::as_str), Some("spawn"));
    let spawn = span("spawn", &command.id).await;
    span("load", &spawn.id).await;

    publish_for("nobody-declared-it", &fleet, Some(&traceparent())).await;
    let refused = span("refuse", PARENT).await;
    assert!(refused.events.iter().any(|step| step.contains("no model `nobody-declared-it`")), "{:?}", refused.events);
}

#[tokio::test]
async fn a_job_without_a_trace_or_with_a_malformed_one_begins_its_own() {
    let mut collector = Collector::start().await;
    let fleet = exporting(&collector).await;
    fleet.serve_mock("m", "tokens=1", 1, 1).await;
    fleet.ready(1).await;
    let mut traces = BTreeSet::new();
    for traceparent in [None, None, Some("00-not-a-trace-01"), Some("")] {
        publish(&fleet, traceparent).await;
        let is_new = |span: &Span| span.name == "job" && !traces.contains(&span.trace);
        let job = collector.span("a job in a trace of its own", is_new).await;
        assert_eq!(job.events.last().map(String::as_str), Some("done"));
        traces.insert(job.trace);
    }
    let ran = fleet.rbee(&["run", "m", "Hi"]).await;
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let submit = collector.span("a job that was submitted", |span| span.name == "submit").await;
    assert_eq!((submit.service.as_str(), submit.parent.as_str()), ("rbee", ""), "it begins the trace");
    let job = collector.span("its answer", |span| span.name == "job" && span.trace == submit.trace).await;
    assert_eq!(job.parent, submit.id);
}

#[tokio::test]
async fn a_trace_is_handed_on_also_where_nothing_is_exported() {
    let fleet = Fleet::start().await;
    // A job that comes before the declaration is known is found by a count of those that wait, which tells of no trace.
    fleet.serve_mock("m", "tokens=1", 0, 1).await;
    fleet.declared(&["m"]).await;
    let mut commands = fleet.bus.subscribe("rbee.cmd.hive.*".to_owned()).await.expect("the server answers");
    publish(&fleet, Some(&traceparent())).await;
    let command = next(&mut commands, "command").await;
    assert_eq!((header(&command), beside(&command)), (Some(traceparent()), Some(BESIDE.to_owned())));
    let worker = fleet.ready(1).await.remove(0);
    let pid = worker.record.pid.expect("it runs");
    let environment = fs::read(format!("/proc/{pid}/environ")).expect("the worker runs");
    for told in [format!("TRACEPARENT={}", traceparent()), format!("TRACESTATE={BESIDE}")] {
        assert!(environment.split(|byte| *byte == 0).any(|variable| variable == told.as_bytes()), "{told}");
    }
    let log = fleet.folder().join("one/logs").join(format!("{}.log", worker.name));
    let taken = || {
        fs::read_to_string(&log)
            .unwrap_or_default()
            .lines()
            .any(|line| line.contains("received a job") && line.contains(TRACE))
    };
    eventually("the log says whose trace the job is of", PATIENCE, async || taken()).await;
}

#[tokio::test]
async fn who_asks_by_request_or_over_http_keeps_the_trace() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=1", 1, 1).await;
    let mut queued = fleet.bus.subscribe("rbee.queued.>".to_owned()).await.expect("the server answers");
    let body = serde_json::json!({ "model": "m", "messages": [{ "role": "user", "content": "Hi" }] });
    let url = format!("{}/v1/chat/completions", fleet.http().await);
    let asked = reqwest::Client::new().post(url).header("traceparent", traceparent());
    let (first, second) = BESIDE.split_once(',').expect("two entries");
    let answer = asked.header("tracestate", first).header("tracestate", second).json(&body).send().await;
    assert!(answer.expect("the gateway answers").status().is_success());
    let job = next(&mut queued, "job over HTTP").await;
    assert_eq!((header(&job), beside(&job)), (Some(traceparent()), Some(BESIDE.to_owned())));

    let mut headers = async_nats::HeaderMap::new();
    headers.insert("traceparent", traceparent());
    let inbox = fleet.bus.client().new_inbox();
    let asked =
        fleet.bus.client().publish_with_reply_and_headers("rbee.api.infer", inbox, headers, body.to_string().into());
    asked.await.expect("the connection stands");
    assert_eq!(header(&next(&mut queued, "job by request").await), Some(traceparent()));

    // What cannot be read is no error: the job has a trace of its own.
    let answer = reqwest::Client::new()
        .post(format!("{}/v1/chat/completions", fleet.http().await))
        .header("traceparent", "nonsense")
        .json(&body)
        .send()
        .await;
    assert!(answer.expect("the gateway answers").status().is_success());
    let own = header(&next(&mut queued, "another job").await).expect("a trace");
    assert!(own.len() == traceparent().len() && !own.contains(TRACE), "{own}");
}
