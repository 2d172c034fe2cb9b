//! `rbee events`: what happened, and what happens.

use std::time::{Duration, SystemTime};

use clap::Args;
use rbee_nats::{EventRecord, Events as Stream, recent_events};
use serde_json::{Value, json};

use crate::{Setting, outcome::Outcome};

/// Options of `rbee events`.
#[derive(Debug, Args)]
pub struct Events {
    /// Which events: a subject without its first token, with * and > as wildcards, such as `evt.worker.>`.
    #[arg(default_value = "evt.>", value_name = "SUBJECT")]
    filter: String,
    /// From how long ago, such as 90s, 5m or 1h.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    since: Option<Duration>,
    /// Go on with what happens. This is so where --since is not given.
    #[arg(long, short)]
    follow: bool,
}

impl Events {
    pub(crate) async fn run(self, setting: Setting) -> Result<(), Outcome> {
        let bus = setting.bus("cli/events").await?;
        let namespace = setting.namespace.to_string();
        let is_whole = self.filter.split('.').next() == Some(&namespace);
        let filter = if is_whole { self.filter.clone() } else { format!("{namespace}.{}", self.filter) };
        let since = self.since.map(|ago| SystemTime::now() - ago);
        match since {
            Some(since) if !self.follow => {
                for record in recent_events(&bus, &filter, since).await? {
                    print(&record, setting.json);
                }
                Ok(())
            }
            _ => {
                let mut events = Stream::since(&bus, &filter, since).await?;
                while let Some(record) = events.next().await? {
                    print(&record, setting.json);
                }
                Ok(())
            }
        }
    }
}

fn print(record: &EventRecord, as_json: bool) {
    let time = humantime::format_rfc3339_millis(record.stored);
    let body: Value = serde_json::from_slice(&record.body).unwrap_or_default();
    if as_json {
        let EventRecord { subject, sequence, .. } = record;
        return println!(
            "{}",
            json!({ "at": time.to_string(), "subject": subject, "sequence": sequence, "body": body })
        );
    }
    let time = time.to_string();
    // The day stands in the JSON form; the subject's first tokens say nothing that a reader does not know.
    let clock = time.get(11..23).unwrap_or(&time);
    let subject = record.subject.splitn(3, '.').last().unwrap_or(&record.subject);
    println!("{clock}  {subject}  {}", details(&body));
}

/// The fields of an event but its name, as `key=value`.
fn details(body: &Value) -> String {
    let fields = body.as_object().into_iter().flatten().filter(|(key, _)| *key != "event");
    let words: Vec<String> = fields
        .map(|(key, value)| match value {
            Value::String(text) if text.contains(' ') => format!("{key}={text:?}"),
            Value::String(text) => format!("{key}={text}"),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                format!("{key}={value}")
            }
        })
        .collect();
    words.join(" ")
}
