//! `rbee events`: prints past events and follows new ones.

use std::time::{Duration, SystemTime};

use clap::Args;
use rbee_nats::{EventReader as Stream, EventRecord, recent_events};
use serde_json::{Value, json};

use crate::{Context, error::CliError, output};

/// Options of `rbee events`.
#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Subject of the events without the namespace, such as `evt.worker.>`. `*` and `>` are wildcards.
    #[arg(default_value = "evt.>", value_name = "SUBJECT")]
    filter: String,
    /// Print the events of this period, such as 90s, 5m or 1h.
    #[arg(long, value_parser = rbee_schema::parse_duration, value_name = "TIME")]
    since: Option<Duration>,
    /// Follow new events after those of --since. Without --since this is the default.
    #[arg(long, short)]
    follow: bool,
}

impl Events {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        let bus = context.bus("cli/events").await?;
        let namespace = context.namespace.to_string();
        let has_namespace = self.filter.split('.').next() == Some(&namespace);
        let filter = if has_namespace { self.filter.clone() } else { format!("{namespace}.{}", self.filter) };
        let since = self.since.map(|ago| SystemTime::now() - ago);
        match since {
            Some(since) if !self.follow => {
                for record in recent_events(&bus, &filter, since).await? {
                    if print_to_closed_pipe(&record, context.json) {
                        break;
                    }
                }
                Ok(())
            }
            _ => {
                let mut events = Stream::since(&bus, &filter, since).await?;
                while let Some(record) = events.next().await? {
                    if print_to_closed_pipe(&record, context.json) {
                        break;
                    }
                }
                Ok(())
            }
        }
    }
}

/// Prints an event. True if standard output is closed, such as after `| head`.
fn print_to_closed_pipe(record: &EventRecord, as_json: bool) -> bool {
    output::try_print_line(line(record, as_json)).is_err()
}

fn line(record: &EventRecord, as_json: bool) -> String {
    let time = humantime::format_rfc3339_millis(record.stored).to_string();
    let body: Value = serde_json::from_slice(&record.body).unwrap_or_default();
    let EventRecord { subject, sequence, .. } = record;
    if as_json {
        return json!({ "at": time, "subject": subject, "sequence": sequence, "body": body }).to_string();
    }
    // The first two tokens are the namespace and `evt`, the same on each line.
    let source = subject.splitn(3, '.').last().unwrap_or(subject);
    format!("{}  {source}  {}", time.replace('T', " "), details(&body))
}

/// Fields of an event without its name, as `key=value`.
fn details(body: &Value) -> String {
    let fields = body.as_object().into_iter().flatten().filter(|(key, _)| *key != "event");
    let pairs: Vec<String> = fields
        .map(|(key, value)| match value {
            Value::String(text) if text.contains(' ') => format!("{key}={text:?}"),
            Value::String(text) => format!("{key}={text}"),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                format!("{key}={value}")
            }
        })
        .collect();
    pairs.join(" ")
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn record() -> EventRecord {
        EventRecord {
            subject: "rbee.evt.worker.one.w-1.draining".into(),
            body: br#"{"event":"draining","why":"it is idle"}"#.to_vec().into(),
            sequence: 7,
            stored: UNIX_EPOCH + Duration::from_millis(1_795_329_665_123),
        }
    }

    #[test]
    fn a_text_line_has_time_source_and_fields() {
        let expected = "2026-11-22 06:41:05.123Z  worker.one.w-1.draining  why=\"it is idle\"";
        assert_eq!(line(&record(), false), expected);
    }

    #[test]
    fn a_json_line_has_the_rfc_3339_time_and_the_whole_body() {
        let document: Value = serde_json::from_str(&line(&record(), true)).expect("JSON");
        assert_eq!(document["at"], "2026-11-22T06:41:05.123Z");
        assert_eq!(document["body"]["event"], "draining");
        assert_eq!((&document["sequence"], &document["subject"]), (&7.into(), &record().subject.into()));
    }
}
