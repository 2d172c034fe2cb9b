//! How a verb ends when it does not end well: a code for programs, words for people.

use std::{fmt::Display, process::ExitCode};

use rbee_schema::{Failure, FailureCode};

/// An end that is not success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    code: u8,
    message: String,
}

impl Outcome {
    /// What was tried did not work.
    pub(crate) fn failed(message: impl Display) -> Self {
        Self { code: 1, message: message.to_string() }
    }

    /// What was asked for makes no sense.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self { code: 2, message: message.to_string() }
    }

    /// The job was answered with an error.
    pub(crate) fn job(failure: &Failure) -> Self {
        Self { code: 3, message: failure.to_string() }
    }

    /// The bus or the queen does not answer.
    pub(crate) fn unavailable(message: impl Display) -> Self {
        Self { code: 69, message: message.to_string() }
    }

    /// Somebody pressed Ctrl-C.
    pub(crate) fn interrupted(message: impl Display) -> Self {
        Self { code: 130, message: message.to_string() }
    }

    /// The same end, with more to say.
    pub(crate) fn and(self, more: impl Display) -> Self {
        Self { message: format!("{}; {more}", self.message), ..self }
    }

    /// What it says.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Says it and returns the exit code.
    pub(crate) fn report(self) -> ExitCode {
        if !self.message.is_empty() {
            eprintln!("rbee: {}", self.message);
        }
        ExitCode::from(self.code)
    }
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        if failure.code == FailureCode::TimedOut { Self::unavailable(failure) } else { Self::failed(failure) }
    }
}

impl From<rbee_nats::BusError> for Outcome {
    fn from(error: rbee_nats::BusError) -> Self {
        Self::unavailable(error)
    }
}

impl From<rbee_hive::HiveError> for Outcome {
    fn from(error: rbee_hive::HiveError) -> Self {
        if error.is_taken() {
            return Self { code: 75, message: error.to_string() };
        }
        match error {
            rbee_hive::HiveError::Bus(_) | rbee_hive::HiveError::Closed => Self::unavailable(error),
            _ => Self::failed(error),
        }
    }
}

impl From<rbee_nats::PlanError> for Outcome {
    fn from(error: rbee_nats::PlanError) -> Self {
        Self::failed(error)
    }
}
