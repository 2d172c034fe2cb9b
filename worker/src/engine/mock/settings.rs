//! Settings of the mock engine.
//!
//! Settings are `name=value` pairs, separated by spaces or commas. For a job, and as a default for every job of the model:
//!
//! | setting | meaning | default |
//! |---|---|---|
//! | `tokens=N` | number of tokens after which the answer ends | 32 |
//! | `interval=5ms` | duration of a step (the maximum of all admitted sequences) | 0 |
//! | `echo` | the answer is the message without its first line, one token per byte | |
//! | `crash=N` | abort the process before token N | |
//! | `exit=N:CODE` | exit with CODE before token N | |
//! | `hang=N` | never return from the step that would make token N | |
//! | `oom=N` | allocate memory until killed, before token N | |
//! | `oom-limit=SIZE` | maximum memory of `oom` (`512MiB`, `4GiB`); beyond it the sequence fails | 4GiB |
//! | `poison=N` | as `crash`, in every attempt | |
//! | `panic=N` | panic before token N | |
//! | `prepare-crash` | abort the process while the chat is rendered, in every attempt | |
//!
//! Tokens are counted from 0. Except for `poison`, a fault occurs only in a sequence that was admitted without tokens of its
//! answer, so that the worker that resumes the job gets past it. A job has at most one fault.
//!
//! For the model alone:
//!
//! | setting | meaning | default |
//! |---|---|---|
//! | `load=200ms` | duration of loading | 0 |
//! | `load-fail=CODE` | loading fails halfway with this failure code | |
//! | `load-stall` | loading hangs halfway | |
//! | `load-crash` | loading aborts the process halfway | |
//! | `think` | answers may begin with reasoning in `<think>` and `</think>` | |
//! | `context=N` | context size in tokens, prompt and answer together; a prompt has one token per byte | 32768 |

use std::time::Duration;

use rbee_schema::{Failure, FailureCode};
use serde::{
    Deserialize,
    de::{IntoDeserializer, value},
};

use super::fault::{Fault, FaultKind};

const JOB_SETTINGS: &str = "tokens, interval, echo, crash, exit, hang, oom, oom-limit, poison, panic, prepare-crash";
const MODEL_SETTINGS: &str = "load, load-fail, load-stall, load-crash, think, context";

/// Settings of a mock model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSettings {
    /// Duration of loading.
    pub load: Duration,
    /// Fault halfway through loading.
    pub load_fault: LoadFault,
    /// True if answers may begin with reasoning.
    pub has_reasoning: bool,
    /// Context size in tokens, prompt and answer together.
    pub context: u32,
    /// Default settings of its jobs.
    pub job: JobSettings,
}

/// Fault of loading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadFault {
    /// No fault.
    None,
    /// Loading hangs.
    Stall,
    /// Loading fails with this code.
    Fail(FailureCode),
    /// The process aborts.
    Crash,
}

/// Settings of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSettings {
    /// Number of tokens of the answer.
    pub tokens: u32,
    /// Duration of a step.
    pub interval: Duration,
    /// Text of the answer; `None` for words that the seed determines.
    pub echo: Option<String>,
    /// Fault of the job.
    pub fault: Option<Fault>,
    /// Maximum memory that the fault `oom` allocates, in bytes.
    pub oom_limit: u64,
    /// True if the process aborts while the chat is rendered.
    pub prepare_crash: bool,
}

impl Default for JobSettings {
    fn default() -> Self {
        Self { tokens: 32, interval: Duration::ZERO, echo: None, fault: None, oom_limit: 4 << 30, prepare_crash: false }
    }
}

impl ModelSettings {
    /// Parses the part of a model reference that follows `mock:`.
    ///
    /// # Errors
    /// `invalid-request`, with the setting and the expected values.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let mut settings = Self {
            load: Duration::ZERO,
            load_fault: LoadFault::None,
            has_reasoning: false,
            context: 32_768,
            job: JobSettings::default(),
        };
        for (name, value) in pairs(text) {
            match name {
                "load" => settings.load = duration(name, value)?,
                "load-fail" => settings.load_fault = LoadFault::Fail(code(value)?),
                "load-stall" => settings.load_fault = LoadFault::Stall,
                "load-crash" => settings.load_fault = LoadFault::Crash,
                "think" => settings.has_reasoning = true,
                "context" => settings.context = number(name, value)?,
                _ => settings.job.set(name, value, &format!("{JOB_SETTINGS}, {MODEL_SETTINGS}"))?,
            }
        }
        Ok(settings)
    }
}

impl JobSettings {
    /// These settings with the overrides in the first line of a message that begins with `mock:`. Other messages override
    /// nothing.
    ///
    /// # Errors
    /// `invalid-request`, with the setting and the expected values.
    pub fn overridden_by(mut self, message: &str) -> Result<Self, Failure> {
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
            "panic" => self.fault = Some(Fault { at: number(name, value)?, kind: FaultKind::Panic }),
            "prepare-crash" => self.prepare_crash = true,
            "hang" => self.fault = Some(Fault { at: number(name, value)?, kind: FaultKind::Hang }),
            "oom" => self.fault = Some(Fault { at: number(name, value)?, kind: FaultKind::OutOfMemory }),
            "exit" => {
                let (at, code) = value.split_once(':').ok_or_else(|| unexpected(name, value, "as in exit=7:3"))?;
                self.fault = Some(Fault { at: number(name, at)?, kind: FaultKind::Exit(number(name, code)?) });
            }
            _ => return Err(refuse(format!("the mock engine has no setting `{name}`: expected one of {known}"))),
        }
        Ok(())
    }
}

fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let words = text.split([',', ' ', '\t']).filter(|word| !word.is_empty());
    words.map(|word| word.split_once('=').unwrap_or((word, "")))
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, Failure> {
    value.parse().map_err(|_| unexpected(name, value, "a whole number"))
}

fn duration(name: &str, value: &str) -> Result<Duration, Failure> {
    humantime::parse_duration(value).map_err(|_| unexpected(name, value, "a duration such as 5ms"))
}

fn size(name: &str, value: &str) -> Result<u64, Failure> {
    let parsed = [("MiB", 20), ("GiB", 30)].into_iter().find_map(|(unit, shift)| {
        let count: u64 = value.strip_suffix(unit)?.parse().ok()?;
        count.checked_mul(1 << shift)
    });
    parsed.ok_or_else(|| unexpected(name, value, "a size such as 512MiB or 4GiB"))
}

fn code(value: &str) -> Result<FailureCode, Failure> {
    let text: value::StrDeserializer<'_, value::Error> = value.into_deserializer();
    FailureCode::deserialize(text)
        .map_err(|cause| refuse(format!("the setting load-fail of the mock engine is not a failure code: {cause}")))
}

fn unexpected(name: &str, value: &str, expected: &str) -> Failure {
    refuse(format!("the setting {name} of the mock engine is `{value}`: expected {expected}"))
}

fn refuse(message: String) -> Failure {
    Failure::new(FailureCode::InvalidRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_sets_defaults_for_all_jobs() {
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
            ModelSettings { load: Duration::from_millis(200), load_fault, has_reasoning: false, context: 4096, job };
        assert_eq!(settings, Ok(expected));
    }

    #[test]
    fn message_overrides_settings_of_its_job() {
        let model = JobSettings { tokens: 7, interval: Duration::from_secs(1), ..JobSettings::default() };
        let job =
            model.clone().overridden_by("  mock: tokens=20 exit=7:3 oom-limit=64MiB\nanything=else").expect("valid");
        assert_eq!((job.tokens, job.interval, job.oom_limit), (20, Duration::from_secs(1), 64 << 20));
        assert_eq!(job.fault, Some(Fault { at: 7, kind: FaultKind::Exit(3) }));
        assert_eq!(model.clone().overridden_by("Tell me about mock: tokens=1"), Ok(model));
    }

    #[test]
    fn unknown_setting_is_refused_by_name() {
        for (text, words) in [
            ("speed=1", "expected one of tokens, interval"),
            ("tokens", "the setting tokens of the mock engine is ``"),
            ("tokens=-1", "a whole number"),
            ("interval=5", "such as 5ms"),
            ("oom-limit=5", "such as 512MiB"),
            ("oom-limit=99999999999GiB", "such as 512MiB"),
            ("exit=3", "as in exit=7:3"),
            ("load-fail=tired", "tired"),
        ] {
            let failure = ModelSettings::parse(text).expect_err(text);
            assert_eq!(failure.code, FailureCode::InvalidRequest);
            assert!(failure.message.contains(words), "{failure}");
        }
        assert!(JobSettings::default().overridden_by("mock: load=1s").is_err(), "a job does not load");
    }
}
