//! Floods of malformed messages. Each runs twice: a leak would double after the second run.

use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use comfy_table::{CellAlignment, Table, presets::NOTHING};
use futures::future::join_all;
use rbee_nats::{Bus, CommandIssuer, IssuedCommand, Subject};
use rbee_schema::{HiveCommand, HiveName, QueenEvent, QueenName, StopMode, WorkerName, api::Status};
use rbee_tests::{
    fleet::{Fleet, metric_value},
    wait::eventually,
};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{recovery::QUEEN, usage::Usage};

/// Time limit for the processing of a flood, on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);

/// Messages that are published before the generator waits: for acknowledgements, or for [`PAUSE`] where there are none.
const BATCH: usize = 500;

/// Pause after a batch without acknowledgements. About 50,000 messages per second, so that no full buffer drops one.
const PAUSE: Duration = Duration::from_millis(10);

/// Counter of ignored messages of a queen.
const IGNORED: &str = "rbee_queen_ignored_total";

/// Floods a queen, and then a real hive, and prints the times and the memory.
///
/// # Panics
/// When a message is not counted, or the fleet differs afterwards.
pub async fn measure(fleet: &mut Fleet, count: usize) {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header([
        "",
        "messages",
        "counted",
        "time",
        "memory before",
        "after flood 1",
        "after flood 2",
    ]);
    let before = size(&fleet.bus).await;
    for flood in [Flood::Unknown, Flood::Unreadable, Flood::Keys, Flood::Declarations, Flood::Orders] {
        table.add_row(run_twice(fleet, flood, count).await);
    }
    assert_eq!(size(&fleet.bus).await, before, "hives, ready workers and models are as before the floods");
    table.add_row(replay(fleet, count / 10).await);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!(
        "\nFloods: time until the first flood is counted, and resident memory of the queen (last row: of the hive)"
    );
    for line in table.to_string().lines() {
        println!("{}", line.trim_end());
    }
}

/// A kind of malformed message.
#[derive(Debug, Clone, Copy)]
enum Flood {
    /// Heartbeats of unknown hives and workers.
    Unknown,
    /// Heartbeats that cannot be parsed.
    Unreadable,
    /// Keys in the buckets of hives, workers and models that are no valid names.
    Keys,
    /// Invalid declarations of models.
    Declarations,
    /// Placement events of an unknown queen for unknown hives.
    Orders,
}

impl Flood {
    fn description(self) -> &'static str {
        match self {
            Self::Unknown => "heartbeats of unknown hives and workers",
            Self::Unreadable => "heartbeats that cannot be parsed",
            Self::Keys => "registry keys that are no valid names",
            Self::Declarations => "invalid declarations of models",
            Self::Orders => "placements by an unknown queen on unknown hives",
        }
    }

    async fn publish(self, bus: &Bus, count: usize) {
        match self {
            Self::Unknown => {
                let heartbeat = json!({
                    "model": "m", "epoch": 1, "slots": 2, "workers": 0, "ports_leased": 0, "ports_total": 0,
                });
                publish(bus, (0..count).map(|number| (unknown(number), heartbeat.clone()))).await;
            }
            Self::Unreadable => {
                publish(bus, (0..count).map(|number| (unknown(number), json!({ "epoch": "one" })))).await;
            }
            Self::Keys => write(bus, count, malformed_key).await,
            Self::Declarations => write(bus, count, invalid_declaration).await,
            Self::Orders => {
                let queen = QueenName::from_lossy("ghost");
                let subject = Subject::QueenEvent(queen, "placed".to_owned());
                let placed = |number: usize| QueenEvent::Placed {
                    model: rbee_schema::ModelName::from_lossy("model-0000"),
                    hive: HiveName::from_lossy(&format!("ghost-{number}")),
                    worker: WorkerName::from_lossy(&format!("ghost-{number}")),
                    why: "a flood".to_owned(),
                    expected_ms: None,
                };
                let placed = |number| serde_json::to_value(placed(number)).expect("an event can be written");
                publish(bus, (0..count).map(|number| (subject.clone(), placed(number)))).await;
            }
        }
    }
}

/// Runs a flood twice, and returns its row of the table.
async fn run_twice(fleet: &Fleet, flood: Flood, count: usize) -> Vec<String> {
    let queen = fleet.role_pid(QUEEN);
    let url = format!("{}/metrics", fleet.http().await);
    let ignored = async || metric_value(&url, IGNORED).await as usize;
    let (begun, before, memory) = (Instant::now(), ignored().await, Usage::of(queen).resident);
    flood.publish(&fleet.bus, count).await;
    eventually("every message is counted", LIMIT, async || ignored().await >= before + count).await;
    let (took, counted, first) = (begun.elapsed(), ignored().await - before, Usage::of(queen).resident);
    flood.publish(&fleet.bus, count).await;
    eventually("every message is counted", LIMIT, async || ignored().await >= before + 2 * count).await;
    row(flood.description(), count, counted, took, [memory, first, Usage::of(queen).resident])
}

/// Replays commands of an ended term to a real hive.
async fn replay(fleet: &mut Fleet, count: usize) -> Vec<String> {
    let one = fleet.hive_one("");
    let record = fleet.start_hive(&one).await;
    let url = record.metrics.expect("the record of a hive has the address of its metrics");
    let hive: HiveName = "one".parse().expect("a name");
    let refused = async || metric_value(&url, "rbee_hive_stale_commands_total").await as usize;
    let command = HiveCommand::Stop {
        worker: WorkerName::from_lossy("model-0000-00000000"),
        why: "a replay".to_owned(),
        mode: StopMode::Terminate,
    };
    // The first term began with revision 1 at the earliest.
    let order = IssuedCommand { command, issuer: CommandIssuer::Leader(0), trace: None };
    let replay_all = async || {
        for _ in 0..count.div_ceil(BATCH) {
            let stored = join_all((0..BATCH.min(count)).map(|_| fleet.bus.issue(&hive, &order))).await;
            stored.into_iter().for_each(|stored| stored.expect("the server answers"));
        }
    };
    let count = count.div_ceil(BATCH) * BATCH.min(count);
    let (begun, memory) = (Instant::now(), Usage::of(record.pid).resident);
    replay_all().await;
    eventually("every command is refused", LIMIT, async || refused().await >= count).await;
    let (took, counted, first) = (begun.elapsed(), refused().await, Usage::of(record.pid).resident);
    replay_all().await;
    eventually("every command is refused", LIMIT, async || refused().await >= 2 * count).await;
    let last = Usage::of(record.pid).resident;
    row("replayed commands of an ended term, to a real hive", count, counted, took, [memory, first, last])
}

fn row(what: &str, count: usize, counted: usize, took: Duration, memory: [u64; 3]) -> Vec<String> {
    let mebibytes = memory.map(|bytes| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)));
    let begin = [what.to_owned(), count.to_string(), counted.to_string(), format!("{:.2} s", took.as_secs_f64())];
    begin.into_iter().chain(mebibytes).collect()
}

/// Numbers of hives, ready workers and models that the queen knows.
async fn size(bus: &Bus) -> [u32; 3] {
    let status: Status = bus.request("status", &()).await.expect("the queen answers");
    [status.hives, status.workers_ready, status.models]
}

/// Subject of the heartbeat of an unknown hive or worker.
fn unknown(number: usize) -> Subject {
    let hive = HiveName::from_lossy(&format!("ghost-{number}"));
    match number % 3 {
        0 => Subject::HiveHeartbeat(hive),
        1 => Subject::WorkerHeartbeat(hive, WorkerName::from_lossy("ghost")),
        _ => Subject::WorkerHeartbeat(
            HiveName::from_lossy("hive-0000"),
            WorkerName::from_lossy(&format!("ghost-{number}")),
        ),
    }
}

/// Publishes messages that are not acknowledged.
async fn publish(bus: &Bus, messages: impl Iterator<Item = (Subject, Value)>) {
    for (number, (subject, body)) in messages.enumerate() {
        bus.publish(&subject, &body).await.expect("the connection is open");
        if number % BATCH == BATCH - 1 {
            bus.flush().await.expect("the connection is open");
            sleep(PAUSE).await;
        }
    }
    bus.round_trip().await.expect("the server answers");
}

/// A bucket, a key and its value.
type Entry = (&'static str, String, String);

fn malformed_key(number: usize) -> Entry {
    let spec = r#"{"reference":"mock:"}"#;
    let worker = r#"{"model":"m","phase":"ready","epoch":1,"slots":2}"#;
    let hive = r#"{"epoch":1,"version":"0","host":"h","first_port":1,"last_port":2}"#;
    match number % 3 {
        0 => ("hives", format!("a.hive.{number}"), hive.to_owned()),
        1 => ("workers", format!("worker-without-hive-{number}"), worker.to_owned()),
        _ => ("models", format!("a.model.{number}"), spec.to_owned()),
    }
}

fn invalid_declaration(number: usize) -> Entry {
    let body = match number % 4 {
        0 => "no JSON",
        1 => r#"{"reference":"model.gguf"}"#,
        2 => r#"{"reference":"mock:","replicas":{"min":2,"max":1}}"#,
        _ => r#"{"reference":"mock:","slots":0}"#,
    };
    ("models", format!("invalid-{number}"), body.to_owned())
}

/// Writes keys, and then removes them.
async fn write(bus: &Bus, count: usize, entry: impl Fn(usize) -> Entry) {
    let numbers: Vec<usize> = (0..count).collect();
    for removes in [false, true] {
        for batch in numbers.chunks(BATCH) {
            let stored = join_all(batch.iter().map(|number| store(bus, entry(*number), removes))).await;
            stored.into_iter().for_each(|stored| stored.expect("the server stores it"));
        }
    }
}

async fn store(bus: &Bus, (bucket, key, body): Entry, removes: bool) -> Result<(), String> {
    let subject = format!("$KV.{}.{key}", bus.namespace().resource(bucket));
    let mut headers = HeaderMap::new();
    if removes {
        headers.insert("KV-Operation", "PURGE");
        headers.insert("Nats-Rollup", "sub");
        headers.insert("Nats-TTL", "60s");
    }
    let sent = bus.jetstream().publish_with_headers(subject, headers, body.into()).await;
    sent.map_err(|error| error.to_string())?.await.map(drop).map_err(|error| error.to_string())
}
