//! The AsyncAPI document: every subject with the messages on it, generated from the topology and the vocabulary.
//!
//! Format: <https://www.asyncapi.com/docs/reference/specification/v3.0.0>.

use rbee_schema::{
    AlertEvent, AlertKind, AuditEvent, Document, HiveEvent, JobEvent, ModelEvent, PortEvent, QueenEvent, WorkerEvent,
    documents,
};
use serde_json::{Map, Value, json};

use crate::{Namespace, Topology};

/// A subject, with placeholders for its names.
struct Channel {
    id: &'static str,
    address: &'static str,
    what: &'static str,
    /// The document that stands in its messages; none where they are empty.
    message: Option<&'static str>,
    /// `send`: a client of the fleet publishes here. `receive`: it listens here.
    action: &'static str,
}

const fn channel(
    id: &'static str,
    address: &'static str,
    what: &'static str,
    message: Option<&'static str>,
    action: &'static str,
) -> Channel {
    Channel { id, address, what, message, action }
}

const SEND: &str = "send";
const RECEIVE: &str = "receive";

const CHANNELS: &[Channel] = &[
    channel(
        "submit",
        "submit.{model}",
        "A job in its short form: interactive, of the default tenant.",
        Some("job"),
        SEND,
    ),
    channel(
        "job",
        "job.{model}.{class}.{tenant}",
        "A job, or `embeddings-job` for a model that computes these. `Nats-Msg-Id` is its id.",
        Some("job"),
        SEND,
    ),
    channel("queued", "queued.{model}.{class}.{tenant}", "A job was stored. Headers only.", None, RECEIVE),
    channel("output", "out.{tenant}.{job}", "What a job answers, as it is stored.", Some("chunk"), RECEIVE),
    channel("cancel", "cancel.{tenant}.{job}", "The job is no longer wanted. No body.", None, SEND),
    channel("queen-event", "evt.queen.{queen}.{event}", "What happened to a queen.", Some("queen-event"), RECEIVE),
    channel("hive-event", "evt.hive.{hive}.{event}", "What happened to a hive.", Some("hive-event"), RECEIVE),
    channel(
        "worker-event",
        "evt.worker.{hive}.{worker}.{event}",
        "What happened to a worker.",
        Some("worker-event"),
        RECEIVE,
    ),
    channel("port-event", "evt.port.{hive}.{port}.{event}", "What happened to a port.", Some("port-event"), RECEIVE),
    channel(
        "model-event",
        "evt.model.{model}.{event}",
        "What happened to a declaration.",
        Some("model-event"),
        RECEIVE,
    ),
    channel("job-event", "evt.job.{tenant}.{job}.{event}", "What happened to a job.", Some("job-event"), RECEIVE),
    channel(
        "alert-event",
        "evt.alert.{kind}.{event}",
        "What an operator should look at.",
        Some("alert-event"),
        RECEIVE,
    ),
    channel("audit-event", "evt.audit.{event}", "Seals of the trail of events.", Some("audit-event"), RECEIVE),
    channel("hive-heartbeat", "beat.{hive}", "A hive's heartbeat, every second.", Some("hive-heartbeat"), RECEIVE),
    channel("worker-heartbeat", "beat.{hive}.{worker}", "A worker's heartbeat.", Some("worker-heartbeat"), RECEIVE),
    channel("hive-command", "cmd.hive.{hive}", "A command to a hive.", Some("hive-command"), SEND),
    channel("worker-control", "ctl.worker.{hive}.{worker}", "What a worker is told.", Some("worker-control"), SEND),
    channel("queen-control", "ctl.queen", "What every queen is told.", Some("queen-control"), SEND),
    channel("dead", "dead.{model}", "Jobs that were given up.", Some("dead-job"), RECEIVE),
    channel(
        "api-infer",
        "api.infer",
        "A job by request; replies are its chunks, then an empty one.",
        Some("job"),
        SEND,
    ),
    channel(
        "api-embed",
        "api.embed",
        "A job for vectors of texts by request; replies are its chunks, then an empty one.",
        Some("embeddings-job"),
        SEND,
    ),
    channel("api-cancel", "api.cancel", "Cancel a job by request.", Some("api-cancel"), SEND),
    channel(
        "api-status",
        "api.status",
        "The fleet in numbers, by request without a body.",
        Some("api-status"),
        RECEIVE,
    ),
    channel(
        "api-models",
        "api.models",
        "A page of declared models. The reply is `api-models`.",
        Some("api-page-request"),
        SEND,
    ),
    channel("api-hives", "api.hives", "A page of hives. The reply is `api-hives`.", Some("api-page-request"), SEND),
    channel(
        "api-workers",
        "api.workers",
        "A page of workers. The reply is `api-workers`.",
        Some("api-page-request"),
        SEND,
    ),
    channel("api-worker", "api.worker", "One worker, by request.", Some("api-worker-request"), SEND),
    channel("api-model", "api.model", "One declared model, by request.", Some("api-model-request"), SEND),
    channel(
        "api-explain",
        "api.explain",
        "Where another worker of a model would go, and why. The reply is an `api-explanation`.",
        Some("api-model-request"),
        SEND,
    ),
    channel(
        "api-spawn",
        "api.spawn",
        "Start another worker. The reply is `api-command-reply`.",
        Some("api-spawn"),
        SEND,
    ),
    channel("api-stop", "api.stop", "End a worker. The reply is `api-command-reply`.", Some("api-stop"), SEND),
    channel(
        "api-reset",
        "api.reset",
        "Try a worker again at once. The reply is `api-command-reply`.",
        Some("api-worker-request"),
        SEND,
    ),
    channel("api-drain", "api.drain", "Drain a hive. The reply is `api-command-reply`.", Some("api-drain"), SEND),
    channel(
        "api-pull",
        "api.pull",
        "Fetch a model file. The reply is `api-command-reply`.",
        Some("api-file-request"),
        SEND,
    ),
    channel(
        "api-rm",
        "api.rm",
        "Delete a model file. The reply is `api-command-reply`.",
        Some("api-file-request"),
        SEND,
    ),
];

/// The document, for the default namespace.
pub fn document() -> Value {
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "rbee",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "One private inference service from the machines a person owns, on NATS and JetStream.",
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "defaultContentType": "application/json",
        "servers": { "local": { "host": "127.0.0.1:4222", "protocol": "nats" } },
        "channels": keyed(CHANNELS.iter().map(|channel| (channel.id, describe(channel)))),
        "operations": keyed(CHANNELS.iter().map(|channel| (channel.id, operate(channel)))),
        "components": { "messages": messages(), "x-streams": streams() },
    })
}

fn keyed<'a>(entries: impl Iterator<Item = (&'a str, Value)>) -> Value {
    Value::Object(entries.map(|(key, value)| (key.to_owned(), value)).collect())
}

fn describe(channel: &Channel) -> Value {
    let namespace = Namespace::default();
    let placeholders = channel.address.split(['{', '}']).skip(1).step_by(2);
    let parameters: Map<String, Value> =
        placeholders.map(|name| (name.to_owned(), parameter(name, channel.message))).collect();
    let mut described = json!({
        "address": format!("{namespace}.{}", channel.address),
        "description": channel.what,
        "parameters": parameters,
    });
    if let Some(message) = channel.message {
        described["messages"] = json!({ message: { "$ref": format!("#/components/messages/{message}") } });
    }
    described
}

fn parameter(name: &str, message: Option<&str>) -> Value {
    let names = match (name, message) {
        ("class", _) => &["interactive", "batch"][..],
        ("event", Some("queen-event")) => QueenEvent::NAMES,
        ("event", Some("hive-event")) => HiveEvent::NAMES,
        ("event", Some("worker-event")) => WorkerEvent::NAMES,
        ("event", Some("port-event")) => PortEvent::NAMES,
        ("event", Some("model-event")) => ModelEvent::NAMES,
        ("event", Some("job-event")) => JobEvent::NAMES,
        ("event", Some("alert-event")) => AlertEvent::NAMES,
        ("event", Some("audit-event")) => AuditEvent::NAMES,
        ("kind", _) => return json!({ "enum": AlertKind::ALL.map(AlertKind::as_str) }),
        _ => return json!({ "description": "1 to 64 characters of A-Z a-z 0-9 _ -" }),
    };
    json!({ "enum": names })
}

fn operate(channel: &Channel) -> Value {
    json!({
        "action": channel.action,
        "channel": { "$ref": format!("#/channels/{}", channel.id) },
        "summary": channel.what,
    })
}

fn messages() -> Value {
    let message = |document: &Document| json!({ "name": document.name, "payload": document.schema });
    let documents = documents();
    keyed(documents.iter().map(|document| (document.name, message(document))))
}

/// Streams and buckets, which AsyncAPI has no words for.
fn streams() -> Value {
    let topology = Topology::new(&Namespace::default());
    let stream = |subjects: &[String], what: &str| json!({ "description": what, "subjects": subjects });
    keyed(topology.streams.iter().map(|spec| (spec.name.as_str(), stream(&spec.subjects, &spec.description))))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::Subject;

    #[test]
    fn every_channel_is_a_subject_and_every_message_is_a_document() {
        let documents: BTreeSet<&str> = documents().iter().map(|document| document.name).collect();
        for channel in CHANNELS {
            let example = channel
                .address
                .replace("{class}", "batch")
                .replace("{kind}", "disk-low")
                .replace("{port}", "8080")
                .replace(['{', '}'], "");
            let subject = Subject::parse(&Namespace::default(), &format!("rbee.{example}"));
            assert!(subject.is_some() || channel.address.starts_with("api."), "{}", channel.address);
            assert!(channel.message.is_none_or(|message| documents.contains(message)), "{}", channel.id);
        }
    }
}
