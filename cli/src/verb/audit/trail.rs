//! `rbee audit`: the events that an operator wants to see, with who caused them and why.

use std::time::{Duration, SystemTime};

use rbee_nats::{Bus, EventRecord, Subject, recent_events};
use rbee_schema::ModelSpec;
use serde_json::{Value, json};

use crate::{Context, error::CliError, models_file, output};

/// Routine events that the trail leaves out: they occur with every job and at every start.
const ROUTINE_EVENTS: [&str; 11] = [
    "loading",
    "fetch-progress",
    "leased",
    "released",
    "skipped",
    "started",
    "finished",
    "returned",
    "fulfilled",
    "sealed",
    "recovered",
];

/// Prints the entries of the last `since`.
///
/// # Errors
/// The bus does not answer.
pub(super) async fn list(context: &Context, bus: &Bus, since: Duration) -> Result<(), CliError> {
    let records = recent_events(bus, &bus.namespace().all_events(), SystemTime::now() - since).await?;
    let entries: Vec<Entry> = records.iter().filter_map(|record| Entry::read(bus, record)).collect();
    if context.json {
        let entries: Vec<Value> = entries.iter().map(Entry::json).collect();
        output::json(&json!({ "entries": entries }));
        return Ok(());
    }
    let row = |Entry { at, who, what, why, .. }: &Entry| [at.replace('T', " "), who.clone(), what.clone(), why.clone()];
    let rows = entries.iter().map(row).collect();
    output::table(["TIME", "WHO", "WHAT", "WHY"], rows, "no entries in that period");
    Ok(())
}

/// An entry of the trail.
#[derive(Debug, PartialEq)]
struct Entry {
    at: String,
    who: String,
    what: String,
    why: String,
    sequence: u64,
    body: Value,
}

impl Entry {
    fn read(bus: &Bus, record: &EventRecord) -> Option<Self> {
        let (who, what) = match bus.parse(&record.subject)? {
            Subject::QueenEvent(queen, event) => (format!("queen {queen}"), event),
            Subject::HiveEvent(hive, event) => (format!("hive {hive}"), event),
            Subject::WorkerEvent(hive, worker, event) => (format!("worker {hive}/{worker}"), event),
            Subject::PortEvent(hive, port, event) => (format!("port {port} of hive {hive}"), event),
            Subject::ModelEvent(model, event) => (format!("model {model}"), event),
            Subject::TenantEvent(tenant, event) => (format!("tenant {tenant}"), event),
            Subject::JobEvent(tenant, job, event) => (format!("job {tenant}/{job}"), event),
            Subject::AlertEvent(kind, event) => (format!("alert {kind}"), event),
            _ => return None,
        };
        if ROUTINE_EVENTS.contains(&what.as_str()) && !who.starts_with("queen") {
            return None;
        }
        let body: Value = serde_json::from_slice(&record.body).unwrap_or_default();
        let at = humantime::format_rfc3339_millis(record.stored).to_string();
        Some(Self { at, who, why: reason(&body), what, sequence: record.sequence, body })
    }

    fn json(&self) -> Value {
        let Self { at, who, what, why, sequence, body } = self;
        json!({ "at": at, "who": who, "what": what, "why": why, "sequence": sequence, "event": body })
    }
}

/// The reason in an event, or the difference between two declarations. Empty if the event has neither.
fn reason(body: &Value) -> String {
    let spec = |name: &str| body.get(name).and_then(|spec| serde_json::from_value::<ModelSpec>(spec.clone()).ok());
    if let Some(after) = spec("spec") {
        return match spec("before") {
            Some(before) => models_file::describe_difference(&before, &after),
            None => format!("new: {}", after.reference),
        };
    }
    // The record of a tenant is short.
    if let Some(after) = body.get("spec") {
        return match body.get("before") {
            Some(before) => format!("{before} -> {after}"),
            None => format!("new: {after}"),
        };
    }
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let failure = || body.get("failure")?.get("message").and_then(text);
    let field = |name: &str| body.get(name).and_then(text).filter(|text| !text.is_empty());
    let about = field("about");
    let reason = field("why").or_else(failure).or_else(|| field("message")).unwrap_or_default();
    let subjects: Vec<String> = ["model", "hive", "worker"].into_iter().filter_map(field).chain(about).collect();
    match (subjects.is_empty(), reason.is_empty()) {
        (true, _) => reason,
        (false, true) => subjects.join(" "),
        (false, false) => format!("{}: {reason}", subjects.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_comes_from_the_field_that_the_event_has() {
        for (body, expected) in [
            (json!({ "event": "draining", "why": "it is idle" }), "it is idle"),
            (json!({ "event": "refused", "failure": { "code": "x", "message": "no room" } }), "no room"),
            (
                json!({ "event": "placed", "model": "m", "hive": "a", "worker": "w", "why": "a is free" }),
                "m a w: a is free",
            ),
            (json!({ "event": "raised", "about": "a", "message": "lost", "remedy": "look" }), "a: lost"),
            (json!({ "event": "declared", "spec": { "reference": "mock:" } }), "new: mock:"),
            (
                json!({ "event": "declared", "spec": { "reference": "mock:", "slots": 4 }, "before": { "reference": "mock:" } }),
                "slots 2 -> 4",
            ),
            (json!({ "event": "configured", "spec": { "weight": 2 }, "before": {} }), r#"{} -> {"weight":2}"#),
            (json!({ "event": "stopped" }), ""),
        ] {
            assert_eq!(reason(&body), expected, "{body}");
        }
    }
}
