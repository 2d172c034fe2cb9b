//! `rbee audit`: who did what and why, and whether the trail of it is whole.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use rbee_nats::{Bus, EventRecord, Subject, TrailReport, TrailVerifier, recent_events};
use rbee_schema::ModelSpec;
use serde_json::{Value, json};

use crate::{Setting, declare, outcome::Outcome, show};

/// Options of `rbee audit`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Audit {
    #[command(subcommand)]
    verify: Option<Look>,
    /// From how long ago, such as 90s, 5m or 1h.
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration, value_name = "TIME")]
    since: Duration,
}

#[derive(Debug, Subcommand)]
enum Look {
    /// Look whether every event is as it was sealed: none changed, added or removed.
    #[command(
        after_help = "The queen who leads seals events a second after they are stored: each seal holds a hash of the \
                            events since the last one, and of that one's hash. Somebody who may write to the stream could \
                            seal everything anew: keep the hash that is printed, and give it with --expect later."
    )]
    Verify {
        /// The hash of a seal that was printed before: it must still be there.
        #[arg(long, value_name = "HASH")]
        expect: Option<String>,
    },
}

/// What is no news for whoever looks after a fleet: it happens to every job and at every start.
const CHATTER: [&str; 11] = [
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

impl Audit {
    pub(crate) async fn run(self, setting: Setting) -> Result<(), Outcome> {
        let bus = setting.bus("cli/audit").await?;
        match self.verify {
            Some(Look::Verify { expect }) => verify(&setting, &bus, expect.as_deref()).await,
            None => list(&setting, &bus, self.since).await,
        }
    }
}

async fn list(setting: &Setting, bus: &Bus, since: Duration) -> Result<(), Outcome> {
    let records = recent_events(bus, &bus.namespace().all_events(), SystemTime::now() - since).await?;
    let entries: Vec<Entry> = records.iter().filter_map(|record| Entry::read(bus, record)).collect();
    if setting.json {
        let entries: Vec<Value> = entries.iter().map(Entry::json).collect();
        show::json(&json!({ "entries": entries }));
        return Ok(());
    }
    let row = |Entry { at, who, what, why, .. }: &Entry| [at.replace('T', " "), who.clone(), what.clone(), why.clone()];
    show::table(["TIME", "WHO", "WHAT", "WHY"], entries.iter().map(row).collect(), "nothing was told in that time");
    Ok(())
}

/// One line of the trail.
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
            Subject::JobEvent(tenant, job, event) => (format!("job {tenant}/{job}"), event),
            Subject::AlertEvent(kind, event) => (format!("alert {kind}"), event),
            _ => return None,
        };
        if CHATTER.contains(&what.as_str()) && !who.starts_with("queen") {
            return None;
        }
        let body: Value = serde_json::from_slice(&record.body).unwrap_or_default();
        let at = humantime::format_rfc3339_millis(record.stored).to_string();
        Some(Self { at, who, why: why(&body), what, sequence: record.sequence, body })
    }

    fn json(&self) -> Value {
        let Self { at, who, what, why, sequence, body } = self;
        json!({ "at": at, "who": who, "what": what, "why": why, "sequence": sequence, "event": body })
    }
}

/// Why it happened, or what has changed, as far as the event says.
fn why(body: &Value) -> String {
    let spec = |name: &str| body.get(name).and_then(|spec| serde_json::from_value::<ModelSpec>(spec.clone()).ok());
    if let Some(after) = spec("spec") {
        return match spec("before") {
            Some(before) => declare::difference(&before, &after),
            None => format!("new: {}", after.reference),
        };
    }
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let failure = || body.get("failure")?.get("message").and_then(text);
    let of = |name: &str| body.get(name).and_then(text).filter(|text| !text.is_empty());
    let about = of("about");
    let words = of("why").or_else(failure).or_else(|| of("message")).unwrap_or_default();
    let whom: Vec<String> = ["model", "hive", "worker"].into_iter().filter_map(of).chain(about).collect();
    match (whom.is_empty(), words.is_empty()) {
        (true, _) => words,
        (false, true) => whom.join(" "),
        (false, false) => format!("{}: {words}", whom.join(" ")),
    }
}

async fn verify(setting: &Setting, bus: &Bus, expect: Option<&str>) -> Result<(), Outcome> {
    let records = recent_events(bus, &bus.namespace().all_events(), UNIX_EPOCH).await?;
    let is_seal = |record: &EventRecord| matches!(bus.parse(&record.subject), Some(Subject::AuditEvent(_)));
    let has_expected = |record: &EventRecord| {
        let body: Value = serde_json::from_slice(&record.body).unwrap_or_default();
        expect.is_none_or(|expected| body["hash"].as_str() == Some(expected))
    };
    let found_expected = expect.is_none() || records.iter().any(|record| is_seal(record) && has_expected(record));
    let mut inspection = TrailVerifier::default();
    for record in records {
        let is_seal = is_seal(&record);
        inspection.look_at(record, is_seal);
    }
    let TrailReport { events, seals, unsealed, hash, mut breaks } = inspection.end();
    if !found_expected {
        breaks.push(format!("no seal has the hash {}", expect.unwrap_or_default()));
    }
    if setting.json {
        show::json(&json!({
            "events": events, "seals": seals, "unsealed": unsealed, "hash": hash, "breaks": breaks,
        }));
    } else {
        println!("{events} events under {seals} seals are as they were sealed; not sealed yet: {unsealed}");
        if !hash.is_empty() {
            println!("the last seal has the hash {hash}");
        }
    }
    if breaks.is_empty() { Ok(()) } else { Err(Outcome::failed(format!("the trail is broken: {}", breaks.join("; ")))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_something_happened_is_said_in_its_own_words() {
        for (body, words) in [
            (json!({ "event": "draining", "why": "it is idle" }), "it is idle"),
            (json!({ "event": "refused", "failure": { "code": "x", "message": "no room" } }), "no room"),
            (
                json!({ "event": "placed", "model": "m", "hive": "a", "worker": "w", "why": "a is free" }),
                "m a w: a is free",
            ),
            (json!({ "event": "raised", "about": "a", "message": "gone", "remedy": "look" }), "a: gone"),
            (json!({ "event": "declared", "spec": { "reference": "mock:" } }), "new: mock:"),
            (
                json!({ "event": "declared", "spec": { "reference": "mock:", "slots": 4 }, "before": { "reference": "mock:" } }),
                "slots 2 -> 4",
            ),
            (json!({ "event": "stopped" }), ""),
        ] {
            assert_eq!(why(&body), words, "{body}");
        }
    }
}
