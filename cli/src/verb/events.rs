//! `rbee events`: what happened, and what happens.

use std::time::{Duration, SystemTime};

use clap::Args;
use rbee_nats::{EventReader as Stream, EventRecord, recent_events};
use serde_json::{Value, json};

use crate::{Setting, outcome::Outcome, show};

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
                    if is_unread(&record, setting.json) {
                        break;
                    }
                }
                Ok(())
            }
            _ => {
                let mut events = Stream::since(&bus, &filter, since).await?;
                while let Some(record) = events.next().await? {
                    if is_unread(&record, setting.json) {
                        break;
                    }
                }
                Ok(())
            }
        }
    }
}

/// Prints an event, and finds whether nobody reads any more, such as `head` that has its lines.
fn is_unread(record: &EventRecord, as_json: bool) -> bool {
    show::try_to_say(line(record, as_json)).is_err()
}

fn line(record: &EventRecord, as_json: bool) -> String {
    let time = humantime::format_rfc3339_millis(record.stored).to_string();
    let body: Value = serde_json::from_slice(&record.body).unwrap_or_default();
    let EventRecord { subject, sequence, .. } = record;
    if as_json {
        return json!({ "at": time, "subject": subject, "sequence": sequence, "body": body }).to_string();
    }
    // The subject's first tokens say nothing that a reader does not know.
    let who = subject.splitn(3, '.').last().unwrap_or(subject);
    format!("{}  {who}  {}", time.replace('T', " "), details(&body))
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
    fn a_line_for_people_has_the_date_the_time_and_who_did_what() {
        let expected = "2026-11-22 06:41:05.123Z  worker.one.w-1.draining  why=\"it is idle\"";
        assert_eq!(line(&record(), false), expected);
    }

    #[test]
    fn a_line_for_programs_has_the_time_as_rfc_3339_and_the_whole_body() {
        let document: Value = serde_json::from_str(&line(&record(), true)).expect("JSON");
        assert_eq!(document["at"], "2026-11-22T06:41:05.123Z");
        assert_eq!(document["body"]["event"], "draining");
        assert_eq!((&document["sequence"], &document["subject"]), (&7.into(), &record().subject.into()));
    }
}
