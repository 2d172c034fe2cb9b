//! What the mock can be told.
//!
//! Settings are `name=value`, between spaces or commas. For a job (and, as a default for every job, for the model):
//!
//! | setting | meaning | default |
//! |---|---|---|
//! | `tokens=N` | the answer ends by itself after N tokens | 32 |
//! | `interval=5ms` | how long a step takes (the longest of the admitted sequences counts) | 0 |
//! | `echo` | the answer is the rest of the message, behind its first line, a token for each byte | |
//! | `crash=N` | abort the process when about to make token N | |
//! | `exit=N:CODE` | exit with CODE when about to make token N | |
//! | `hang=N` | never return from the step that would make token N | |
//! | `oom=N` | take memory until killed when about to make token N | |
//! | `oom-limit=SIZE` | how much of it at most (`512MiB`, `4GiB`); beyond, the sequence fails | 4GiB |
//! | `poison=N` | as `crash`, at every try | |
//!
//! Tokens are counted from 0. Except for `poison`, a fault strikes only a sequence that was admitted without any token
//! of its answer: whoever resumes the job gets past it. One fault a job.
//!
//! For the model alone:
//!
//! | setting | meaning | default |
//! |---|---|---|
//! | `load=200ms` | how long loading takes | 0 |
//! | `load-fail=CODE` | loading fails halfway, with that failure code | |
//! | `load-stall` | loading stops halfway, for ever | |
//! | `load-crash` | loading aborts the process halfway | |
//! | `think` | answers may begin with a thought in `<think>` and `</think>` | |
//! | `context=N` | tokens of prompt and answer; the mock's prompt has a token for each byte | 32768 |

use std::time::Duration;

use rbee_schema::{Failure, FailureCode};
use serde::{
    Deserialize,
    de::{IntoDeserializer, value},
};

use super::fault::{Fault, FaultKind};

const JOB_SETTINGS: &str = "tokens, interval, echo, crash, exit, hang, oom, oom-limit, poison";
const MODEL_SETTINGS: &str = "load, load-fail, load-stall, load-crash, think, context";

/// What holds for a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSettings {
    /// How long loading takes.
    pub load: Duration,
    /// What goes wrong halfway through.
    pub load_fault: LoadFault,
    /// Whether answers may begin with a thought.
    pub thinks: bool,
    /// Tokens of prompt and answer.
    pub context: u32,
    /// What holds for a job that says nothing else.
    pub job: JobSettings,
}

/// What goes wrong while loading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadFault {
    /// Nothing.
    None,
    /// Progress stops for ever.
    Stall,
    /// It fails with this code.
    Fail(FailureCode),
    /// The process aborts.
    Crash,
}

/// What holds for a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSettings {
    /// How many tokens the answer has.
    pub tokens: u32,
    /// How long a step takes.
    pub interval: Duration,
    /// What the answer is, where it is told.
    pub echo: Option<String>,
    /// What goes wrong.
    pub fault: Option<Fault>,
    /// The most memory that the fault `oom` takes, in bytes.
    pub oom_limit: u64,
}

impl Default for JobSettings {
    fn default() -> Self {
        Self { tokens: 32, interval: Duration::ZERO, echo: None, fault: None, oom_limit: 4 << 30 }
    }
}

impl ModelSettings {
    /// Reads the part of a model reference that follows `mock:`.
    ///
    /// # Errors
    /// `invalid-request`, naming the setting and what is expected.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let mut settings = Self {
            load: Duration::ZERO,
            load_fault: LoadFault::None,
            thinks: false,
            context: 32_768,
            job: JobSettings::default(),
        };
        for (name, value) in pairs(text) {
            match name {
                "load" => settings.load = duration(name, value)?,
                "load-fail" => settings.load_fault = LoadFault::Fail(code(value)?),
                "load-stall" => settings.load_fault = LoadFault::Stall,
                "load-crash" => settings.load_fault = LoadFault::Crash,
                "think" => settings.thinks = true,
                "context" => settings.context = number(name, value)?,
                _ => settings.job.set(name, value, &format!("{JOB_SETTINGS}, {MODEL_SETTINGS}"))?,
            }
        }
        Ok(settings)
    }
}

impl JobSettings {
    /// These settings, changed by the first line of a message that begins with `mock:`. Other messages change nothing.
    ///
    /// # Errors
    /// `invalid-request`, naming the setting and what is expected.
    pub fn with(mut self, message: &str) -> Result<Self, Failure> {
        let (first_line, rest) = message.trim_start().split_once('\n').unwrap_or((message.trim_start(), ""));
        for (name, value) in pairs(first_line.strip_prefix("mock:").unwrap_or_default()) {
            self.set(name, value, JOB_SETTINGS)?;
        }
        self.echo = self.echo.map(|_| rest.to_owned());
        Ok(self)
    }

    fn set(&mut self, name: &str, value: &str, known: &str) -> Result<(), Failure> {
        match name {
            "tokens" => self.tokens = number(name, value)?,
            "interval" => self.interval = duration(name, value)?,
            "echo" => self.echo = Some(String::new()),
            "oom-limit" => self.oom_limit = size(name, value)?,
            "crash" => self.fault = Some(Fault { at: number(name, value)?, kind: FaultKind::Crash }),
            "poison" => self.fault = Some(Fault { at: number(name, value)?, kind: FaultKind::Poison }),
            "hang" => self.fault = Some(Fault { at: number(name, value)?, kind: FaultKind::Hang }),
            "oom" => self.fault = Some(Fault { at: number(name, value)?, kind: FaultKind::OutOfMemory }),
            "exit" => {
                let (at, code) = value.split_once(':').ok_or_else(|| unclear(name, value, "as in exit=7:3"))?;
                self.fault = Some(Fault { at: number(name, at)?, kind: FaultKind::Exit(number(name, code)?) });
            }
            _ => return Err(refuse(format!("the mock has no setting `{name}`: known are {known}"))),
        }
        Ok(())
    }
}

fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let words = text.split([',', ' ', '\t']).filter(|word| !word.is_empty());
    words.map(|word| word.split_once('=').unwrap_or((word, "")))
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, Failure> {
    value.parse().map_err(|_| unclear(name, value, "a whole number"))
}

fn duration(name: &str, value: &str) -> Result<Duration, Failure> {
    humantime::parse_duration(value).map_err(|_| unclear(name, value, "a duration such as 5ms"))
}

fn size(name: &str, value: &str) -> Result<u64, Failure> {
    let parsed = [("MiB", 20), ("GiB", 30)].into_iter().find_map(|(unit, shift)| {
        let count: u64 = value.strip_suffix(unit)?.parse().ok()?;
        count.checked_mul(1 << shift)
    });
    parsed.ok_or_else(|| unclear(name, value, "a size such as 512MiB or 4GiB"))
}

fn code(value: &str) -> Result<FailureCode, Failure> {
    let text: value::StrDeserializer<'_, value::Error> = value.into_deserializer();
    FailureCode::deserialize(text).map_err(|cause| refuse(format!("the mock's setting load-fail: {cause}")))
}

fn unclear(name: &str, value: &str, expected: &str) -> Failure {
    refuse(format!("the mock's setting {name} is `{value}`: expected {expected}"))
}

fn refuse(message: String) -> Failure {
    Failure::new(FailureCode::InvalidRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_sets_what_holds_for_all_jobs() {
        let settings =
            ModelSettings::parse("interval=5ms,tokens=7,load=200ms,context=4096,load-fail=crash-loop,hang=2");
        let job = JobSettings {
            tokens: 7,
            interval: Duration::from_millis(5),
            fault: Some(Fault { at: 2, kind: FaultKind::Hang }),
            ..JobSettings::default()
        };
        let load_fault = LoadFault::Fail(FailureCode::CrashLoop);
        let expected =
            ModelSettings { load: Duration::from_millis(200), load_fault, thinks: false, context: 4096, job };
        assert_eq!(settings, Ok(expected));
    }

    #[test]
    fn a_message_changes_them_for_its_job() {
        let model = JobSettings { tokens: 7, interval: Duration::from_secs(1), ..JobSettings::default() };
        let job = model.clone().with("  mock: tokens=20 exit=7:3 oom-limit=64MiB\nanything=else").expect("valid");
        assert_eq!((job.tokens, job.interval, job.oom_limit), (20, Duration::from_secs(1), 64 << 20));
        assert_eq!(job.fault, Some(Fault { at: 7, kind: FaultKind::Exit(3) }));
        assert_eq!(model.clone().with("Tell me about mock: tokens=1"), Ok(model));
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        for (text, words) in [
            ("speed=1", "known are tokens, interval"),
            ("tokens", "`tokens` is ``"),
            ("tokens=-1", "a whole number"),
            ("interval=5", "such as 5ms"),
            ("oom-limit=5", "such as 512MiB"),
            ("oom-limit=99999999999GiB", "such as 512MiB"),
            ("exit=3", "as in exit=7:3"),
            ("load-fail=tired", "tired"),
        ] {
            let failure = ModelSettings::parse(text).expect_err(text);
            assert_eq!(failure.code, FailureCode::InvalidRequest);
            let words = words.replace("`tokens` is ``", "tokens is ``");
            assert!(failure.message.contains(&words), "{failure}");
        }
        assert!(JobSettings::default().with("mock: load=1s").is_err(), "a job does not load");
    }
}
