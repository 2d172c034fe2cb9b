//! `rbee replay`: lets recorded events go through the planner again, and compares its decisions with the recorded ones.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use clap::Args;
use rbee_nats::{Bus, Namespace, Registry, read_event, recent_events};
use rbee_queen::decide::{
    replay::{Conditions, Decided, Difference, Recorded, ReplayStep, Replayed, replay},
    timers::Timers,
};
use rbee_schema::{Event, JobEvent, ModelName, ModelSpec};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Context,
    error::CliError,
    output::{self, say},
};

/// Inputs of the planner that are never events.
const NEVER_RECORDED: [&str; 4] = [
    "free memory, devices and labels of hives: each hive is taken to have room for every worker",
    "jobs that no worker has begun and nobody has refused: they have no event yet",
    "means of answer and start times from before the first event",
    "restarts of a queen: what it had not read yet",
];

/// Options of `rbee replay`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 1 says that a decision differs. Inputs that no event tells may be the cause; they are listed."
)]
pub(crate) struct Replay {
    /// File with the output of `rbee events --json`, or - for standard input [default: the stored events].
    file: Option<PathBuf>,
    /// Compare the decisions of this period only, such as 90s, 5m or 1h.
    #[arg(long, value_parser = rbee_schema::parse_duration, value_name = "TIME")]
    since: Option<Duration>,
    /// Timers of the queen at that time (NAME=DURATION,...), such as suspect=3s,lost=10s.
    #[arg(long, default_value = "", value_name = "NAME=DURATION")]
    timers: Timers,
}

/// Line of `rbee events --json`.
#[derive(Debug, Deserialize)]
struct Line {
    at: String,
    subject: String,
    body: Value,
}

impl Replay {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        let (events, declared) = match &self.file {
            Some(file) => (read(file)?, BTreeMap::new()),
            None => {
                let bus = context.bus("cli/replay").await?;
                (stored(&bus).await?, declared(&bus).await?)
            }
        };
        let from = self.since.and_then(|ago| SystemTime::now().checked_sub(ago));
        let conditions = Conditions { timers: self.timers, start: Instant::now(), declared, from };
        let replayed = replay(&events, conditions);
        if context.json {
            output::json(&document(events.len(), &replayed));
        } else {
            print(events.len(), &replayed);
        }
        match replayed.difference {
            Some(_) => Err(CliError::failed("the replay has decided otherwise")),
            None => Ok(()),
        }
    }
}

/// Reads events from a file.
fn read(file: &Path) -> Result<Vec<Recorded>, CliError> {
    let failed = |error: std::io::Error| CliError::failed(format!("failed to read {}: {error}", file.display()));
    let mut text = String::new();
    if file.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).map_err(failed)?;
    } else {
        text = fs::read_to_string(file).map_err(failed)?;
    }
    let mut events = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |why: String| {
            let expected = "expected the output of `rbee events --json`, one event per line";
            CliError::usage(format!("{}, line {}: {why}; {expected}", file.display(), number + 1))
        };
        let Line { at, subject, body } = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        let at = humantime::parse_rfc3339(&at).map_err(|error| wrong(format!("`{at}`: {error}")))?;
        let namespace = subject.split('.').next().unwrap_or_default().parse::<Namespace>();
        let namespace = namespace.map_err(|error| wrong(error.to_string()))?;
        events.extend(recorded(&namespace, at, &subject, body.to_string().as_bytes()));
    }
    events.sort_by_key(|event: &Recorded| event.at);
    Ok(events)
}

/// Reads all stored events.
async fn stored(bus: &Bus) -> Result<Vec<Recorded>, CliError> {
    let events = recent_events(bus, &bus.namespace().all_events(), SystemTime::UNIX_EPOCH).await?;
    let event = |event: &rbee_nats::EventRecord| recorded(bus.namespace(), event.stored, &event.subject, &event.body);
    Ok(events.iter().filter_map(event).collect())
}

/// Declarations of today.
async fn declared(bus: &Bus) -> Result<BTreeMap<ModelName, ModelSpec>, CliError> {
    let models = Registry::<ModelSpec>::models(bus).all().await?;
    Ok(models.into_iter().filter_map(|(name, spec)| Some((name.parse().ok()?, spec))).collect())
}

fn recorded(namespace: &Namespace, at: SystemTime, subject: &str, body: &[u8]) -> Option<Recorded> {
    let event = read_event(namespace, subject, body)?;
    let queued = match &event {
        Event::Job(_, _, JobEvent::Started { submitted, .. } | JobEvent::Failed { submitted, .. }) => {
            submitted.as_ref().and_then(|submitted| humantime::parse_rfc3339(&submitted.queued).ok())
        }
        _ => None,
    };
    Some(Recorded { at, queued, event })
}

fn print(count: usize, replayed: &Replayed) {
    for ReplayStep { at, input, decisions } in &replayed.steps {
        say!("{}  {input}", clock(*at));
        for Decided { text, recorded } in decisions {
            say!("    decided:  {text}");
            if let Some(recorded) = recorded {
                say!("    recorded: {recorded}");
            }
        }
    }
    if !replayed.steps.is_empty() {
        say!("");
    }
    say!("not told by the events:");
    for unknown in NEVER_RECORDED.iter().copied().chain(replayed.unknown.iter().map(String::as_str)) {
        say!("  - {unknown}");
    }
    say!("\n{count} events were read; {} decisions are as they were recorded", replayed.equal);
    if let Some(Difference { at, decided, recorded }) = &replayed.difference {
        let or_nothing = |text: &Option<String>| text.clone().unwrap_or_else(|| "nothing".to_owned());
        say!("first difference, at {}:", clock(*at));
        say!("  the replay decides: {}", or_nothing(decided));
        say!("  recorded:           {}", or_nothing(recorded));
        say!("an input that no event tells may be the cause; what follows was not replayed");
    }
}

fn document(count: usize, replayed: &Replayed) -> Value {
    let time = |at: SystemTime| rbee_nats::rfc3339(at);
    let decision = |Decided { text, recorded }: &Decided| json!({ "decided": text, "recorded": recorded });
    let step = |ReplayStep { at, input, decisions }: &ReplayStep| {
        let decisions: Vec<Value> = decisions.iter().map(decision).collect();
        json!({ "at": time(*at), "input": input, "decisions": decisions })
    };
    let steps: Vec<Value> = replayed.steps.iter().map(step).collect();
    let difference = replayed.difference.as_ref().map(
        |Difference { at, decided, recorded }| json!({ "at": time(*at), "decided": decided, "recorded": recorded }),
    );
    let unknown: Vec<&str> =
        NEVER_RECORDED.iter().copied().chain(replayed.unknown.iter().map(String::as_str)).collect();
    json!({ "events": count, "equal": replayed.equal, "steps": steps, "difference": difference, "unknown": unknown })
}

fn clock(at: SystemTime) -> String {
    rbee_nats::rfc3339(at).trim_end_matches('Z').replace('T', " ")
}
