//! The AsyncAPI document: every subject with its messages, generated from the topology and the vocabulary.
//!
//! Format: <https://www.asyncapi.com/docs/reference/specification/v3.0.0>.

use rbee_schema::{
    AlertEvent, AlertKind, AuditEvent, Document, HiveEvent, JobEvent, ModelEvent, PortEvent, QueenEvent, TenantEvent,
    WorkerEvent, documents,
};
use serde_json::{Map, Value, json};

use crate::{Namespace, Topology};

/// Subject with placeholders for names.
struct Channel {
    id: &'static str,
    address: &'static str,
    description: &'static str,
    /// Document in the body of its messages. `None` if they have no body.
    message: Option<&'static str>,
    /// `send`: clients of the fleet publish on the subject. `receive`: they subscribe to it.
    action: &'static str,
}

const fn channel(
    id: &'static str,
    address: &'static str,
    description: &'static str,
    message: Option<&'static str>,
    action: &'static str,
) -> Channel {
    Channel { id, address, description, message, action }
}

const SEND: &str = "send";
const RECEIVE: &str = "receive";

const CHANNELS: &[Channel] = &[
    channel(
        "submit",
        "submit.{model}",
        "Submits a job in the short form: class `interactive`, tenant `default`.",
        Some("job"),
        SEND,
    ),
    channel(
        "job",
        "job.{model}.{class}.{tenant}",
        "Submits a job; `embeddings-job` for an embeddings model. The header `Nats-Msg-Id` is the id of the job; \
         `Rbee-Deadline` and `Rbee-Queue-Deadline` are durations such as `30s`, from the moment at which the job is stored.",
        Some("job"),
        SEND,
    ),
    channel("queued", "queued.{model}.{class}.{tenant}", "Notice of a stored job, without a body.", None, RECEIVE),
    channel("output", "out.{tenant}.{job}", "Output of a job: chunks, as they are stored.", Some("chunk"), RECEIVE),
    channel("cancel", "cancel.{tenant}.{job}", "Cancels a job. No body.", None, SEND),
    channel("queen-event", "evt.queen.{queen}.{event}", "Events of a queen.", Some("queen-event"), RECEIVE),
    channel("hive-event", "evt.hive.{hive}.{event}", "Events of a hive.", Some("hive-event"), RECEIVE),
    channel("worker-event", "evt.worker.{hive}.{worker}.{event}", "Events of a worker.", Some("worker-event"), RECEIVE),
    channel("port-event", "evt.port.{hive}.{port}.{event}", "Events of a port.", Some("port-event"), RECEIVE),
    channel("model-event", "evt.model.{model}.{event}", "Events of a model declaration.", Some("model-event"), RECEIVE),
    channel("tenant-event", "evt.tenant.{tenant}.{event}", "Events of a tenant.", Some("tenant-event"), RECEIVE),
    channel("job-event", "evt.job.{tenant}.{job}.{event}", "Events of a job.", Some("job-event"), RECEIVE),
    channel("alert-event", "evt.alert.{kind}.{event}", "Alerts for operators.", Some("alert-event"), RECEIVE),
    channel("audit-event", "evt.audit.{event}", "Seals of the audit trail.", Some("audit-event"), RECEIVE),
    channel("hive-heartbeat", "beat.{hive}", "Heartbeat of a hive, every second.", Some("hive-heartbeat"), RECEIVE),
    channel(
        "worker-heartbeat",
        "beat.{hive}.{worker}",
        "Heartbeat of a worker, every second.",
        Some("worker-heartbeat"),
        RECEIVE,
    ),
    channel("hive-command", "cmd.hive.{hive}", "Commands a hive.", Some("hive-command"), SEND),
    channel(
        "worker-control",
        "ctl.worker.{hive}.{worker}",
        "Control messages to a worker.",
        Some("worker-control"),
        SEND,
    ),
    channel("queen-control", "ctl.queen", "Control messages to all queens.", Some("queen-control"), SEND),
    channel("dead", "dead.{model}.{tenant}.{job}", "Dead letters: jobs that were given up.", Some("dead-job"), RECEIVE),
    channel(
        "api-infer",
        "api.infer",
        "Runs a job by request. The replies are its chunks, followed by an empty reply.",
        Some("job"),
        SEND,
    ),
    channel(
        "api-embed",
        "api.embed",
        "Runs an embeddings job by request. The replies are its chunks, followed by an empty reply.",
        Some("embeddings-job"),
        SEND,
    ),
    channel(
        "api-jobs",
        "api.jobs",
        "Returns a page of jobs: open, ended or dead ones. The reply is `api-jobs`.",
        Some("api-jobs-request"),
        SEND,
    ),
    channel(
        "api-job",
        "api.job",
        "Returns what has happened to a job. The reply is `api-job`.",
        Some("api-job-request"),
        SEND,
    ),
    channel(
        "api-retry",
        "api.retry",
        "Submits a dead letter again. The reply is `api-retry-reply`.",
        Some("api-retry"),
        SEND,
    ),
    channel("api-cancel", "api.cancel", "Cancels a job. The reply is `api-cancel-reply`.", Some("api-cancel"), SEND),
    channel(
        "api-batch-run",
        "api.batch-run",
        "Runs a file of requests that is stored in the bucket `batches`. The reply is `api-batch`.",
        Some("api-batch-run"),
        SEND,
    ),
    channel("api-batch", "api.batch", "Returns one batch. The reply is `api-batch`.", Some("api-batch-request"), SEND),
    channel(
        "api-batches",
        "api.batches",
        "Returns a page of batches. The reply is `api-batches`.",
        Some("api-page-request"),
        SEND,
    ),
    channel(
        "api-batch-cancel",
        "api.batch-cancel",
        "Cancels a batch. The reply is `api-batch`.",
        Some("api-batch-request"),
        SEND,
    ),
    channel(
        "api-status",
        "api.status",
        "Returns a summary of the fleet. The request has no body; the reply is `api-status`.",
        Some("api-status"),
        RECEIVE,
    ),
    channel(
        "api-models",
        "api.models",
        "Returns a page of declared models. The reply is `api-models`.",
        Some("api-page-request"),
        SEND,
    ),
    channel(
        "api-hives",
        "api.hives",
        "Returns a page of hives. The reply is `api-hives`.",
        Some("api-page-request"),
        SEND,
    ),
    channel(
        "api-workers",
        "api.workers",
        "Returns a page of workers. The reply is `api-workers`.",
        Some("api-page-request"),
        SEND,
    ),
    channel(
        "api-tenants",
        "api.tenants",
        "Returns a page of tenants with their limits and what they use. The reply is `api-tenants`.",
        Some("api-page-request"),
        SEND,
    ),
    channel("api-worker", "api.worker", "Returns one worker, as in `api-workers`.", Some("api-worker-request"), SEND),
    channel(
        "api-model",
        "api.model",
        "Returns one declared model, as in `api-models`.",
        Some("api-model-request"),
        SEND,
    ),
    channel(
        "api-explain",
        "api.explain",
        "Explains the placement of another worker of a model. The reply is `api-explanation`.",
        Some("api-model-request"),
        SEND,
    ),
    channel(
        "api-spawn",
        "api.spawn",
        "Starts another worker. The reply is `api-command-reply`.",
        Some("api-spawn"),
        SEND,
    ),
    channel("api-stop", "api.stop", "Stops a worker. The reply is `api-command-reply`.", Some("api-stop"), SEND),
    channel(
        "api-reset",
        "api.reset",
        "Restarts a worker at once that failed or waits for its restart backoff. The reply is `api-command-reply`.",
        Some("api-worker-request"),
        SEND,
    ),
    channel(
        "api-drain",
        "api.drain",
        "Drains a hive, or ends its drain. The reply is `api-command-reply`.",
        Some("api-drain"),
        SEND,
    ),
    channel(
        "api-pull",
        "api.pull",
        "Fetches a model file. The reply is `api-command-reply`.",
        Some("api-file-request"),
        SEND,
    ),
    channel(
        "api-rm",
        "api.rm",
        "Deletes a model file. The reply is `api-command-reply`.",
        Some("api-file-request"),
        SEND,
    ),
];

/// AsyncAPI document of the default namespace.
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
        "description": channel.description,
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
        ("event", Some("tenant-event")) => TenantEvent::NAMES,
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
        "summary": channel.description,
    })
}

fn messages() -> Value {
    let message = |document: &Document| json!({ "name": document.name, "payload": document.schema });
    let documents = documents();
    keyed(documents.iter().map(|document| (document.name, message(document))))
}

/// Streams and buckets, as an extension: AsyncAPI has no terms for them.
fn streams() -> Value {
    let topology = Topology::new(&Namespace::default());
    let stream = |subjects: &[String], description: &str| json!({ "description": description, "subjects": subjects });
    keyed(topology.streams.iter().map(|spec| (spec.name.as_str(), stream(&spec.subjects, &spec.description))))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::Subject;

    #[test]
    fn every_channel_has_a_valid_subject_and_document() {
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
