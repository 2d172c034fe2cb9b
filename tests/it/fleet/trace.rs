//! One trace covers a job across every process that takes part in it.

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

/// The `tracestate` of another tracing system.
const TRACESTATE: &str = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE";

/// Publishes a job for `m` as any client of NATS does.
async fn publish(fleet: &Fleet, traceparent: Option<&str>) {
    publish_for("m", fleet, traceparent).await;
}

async fn publish_for(model: &str, fleet: &Fleet, traceparent: Option<&str>) {
    let mut headers = async_nats::HeaderMap::new();
    if let Some(traceparent) = traceparent {
        headers.insert("traceparent", traceparent);
        headers.insert("tracestate", TRACESTATE);
    }
    let (subject, body) = (format!("rbee.submit.{model}"), chat("Hi").to_string().into());
    let stored = fleet.bus.jetstream().publish_with_headers(subject, headers, body).await;
    stored.expect("the server answers").await.expect("stored");
}

fn header(message: &Message) -> Option<String> {
    Some(message.headers.as_ref()?.get("traceparent")?.to_string())
}

fn tracestate(message: &Message) -> Option<String> {
    Some(message.headers.as_ref()?.get("tracestate")?.to_string())
}

async fn next(subscriber: &mut rbee_nats::Subscriber, what: &str) -> Message {
    soon(what, subscriber.next()).await.expect("the connection is open")
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
async fn one_trace_covers_placement_spawn_load_and_answer() {
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
    for attribute in ["job", "model", "tenant", "worker"] {
        assert!(job.attributes.contains_key(attribute), "{attribute}: {:?}", job.attributes);
    }
}

#[tokio::test]
async fn requested_spawn_and_refused_job_belong_to_the_callers_trace() {
    let mut collector = Collector::start().await;
    let fleet = exporting(&collector).await;
    fleet.serve_mock("m", "tokens=1", 0, 1).await;
    eventually("the queen knows the model", PATIENCE, async || {
        fleet.status().await.is_some_and(|status| status.models == 1)
    })
    .await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("traceparent", traceparent());
    let body = r#"{"model":"m"}"#.into();
    let asked = fleet.bus.client().request_with_headers("rbee.api.spawn", headers, body).await;
    let answer = String::from_utf8_lossy(&asked.expect("the queen answers").payload).into_owned();
    let commanded: Result<rbee_schema::api::CommandReply, _> = serde_json::from_str(&answer);
    assert!(commanded.is_ok_and(|commanded| commanded.worker.is_some()), "{answer}");
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
async fn job_without_a_valid_trace_begins_its_own() {
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
async fn trace_is_propagated_without_an_exporter() {
    let fleet = Fleet::start().await;
    // A job that is submitted before its model is known is found by a count of waiting jobs, which carries no trace.
    fleet.serve_mock("m", "tokens=1", 0, 1).await;
    fleet.declared(&["m"]).await;
    let mut commands = fleet.bus.subscribe("rbee.cmd.hive.*".to_owned()).await.expect("the server answers");
    publish(&fleet, Some(&traceparent())).await;
    let command = next(&mut commands, "command").await;
    assert_eq!((header(&command), tracestate(&command)), (Some(traceparent()), Some(TRACESTATE.to_owned())));
    let worker = fleet.ready(1).await.remove(0);
    let pid = worker.record.pid.expect("it runs");
    let environment = fs::read(format!("/proc/{pid}/environ")).expect("the worker runs");
    for expected in [format!("TRACEPARENT={}", traceparent()), format!("TRACESTATE={TRACESTATE}")] {
        assert!(environment.split(|byte| *byte == 0).any(|variable| variable == expected.as_bytes()), "{expected}");
    }
    let log = fleet.folder().join("one/logs").join(format!("{}.log", worker.name));
    let taken = || {
        fs::read_to_string(&log)
            .unwrap_or_default()
            .lines()
            .any(|line| line.contains("received a job") && line.contains(TRACE))
    };
    eventually("the log has the trace of the job", PATIENCE, async || taken()).await;
}

#[tokio::test]
async fn requests_and_http_calls_keep_their_trace() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=1", 1, 1).await;
    let mut queued = fleet.bus.subscribe("rbee.queued.>".to_owned()).await.expect("the server answers");
    let body = serde_json::json!({ "model": "m", "messages": [{ "role": "user", "content": "Hi" }] });
    let url = format!("{}/v1/chat/completions", fleet.http().await);
    let asked = reqwest::Client::new().post(url).header("traceparent", traceparent());
    let (first, second) = TRACESTATE.split_once(',').expect("two entries");
    let answer = asked.header("tracestate", first).header("tracestate", second).json(&body).send().await;
    assert!(answer.expect("the gateway answers").status().is_success());
    let job = next(&mut queued, "job over HTTP").await;
    assert_eq!((header(&job), tracestate(&job)), (Some(traceparent()), Some(TRACESTATE.to_owned())));

    let mut headers = async_nats::HeaderMap::new();
    headers.insert("traceparent", traceparent());
    let inbox = fleet.bus.client().new_inbox();
    let asked =
        fleet.bus.client().publish_with_reply_and_headers("rbee.api.infer", inbox, headers, body.to_string().into());
    asked.await.expect("the connection is open");
    assert_eq!(header(&next(&mut queued, "job by request").await), Some(traceparent()));

    // A malformed trace context is no error: the job begins its own trace.
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
