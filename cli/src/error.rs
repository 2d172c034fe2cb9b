//! Error of a verb: an exit code for scripts and a message for people.

use std::{fmt::Display, process::ExitCode};

use rbee_schema::{Failure, FailureCode};

/// A verb that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CliError {
    code: u8,
    message: String,
}

impl CliError {
    /// The operation failed (exit code 1).
    pub(crate) fn failed(message: impl Display) -> Self {
        Self { code: 1, message: message.to_string() }
    }

    /// An option or the configuration is invalid (exit code 2).
    pub(crate) fn usage(message: impl Display) -> Self {
        Self { code: 2, message: message.to_string() }
    }

    /// The job was answered with an error (exit code 3).
    pub(crate) fn job(failure: &Failure) -> Self {
        Self { code: 3, message: failure.to_string() }
    }

    /// The bus or the queen does not answer (exit code 69, `EX_UNAVAILABLE`).
    pub(crate) fn unavailable(message: impl Display) -> Self {
        Self { code: 69, message: message.to_string() }
    }

    /// The user pressed Ctrl-C (exit code 130).
    pub(crate) fn interrupted(message: impl Display) -> Self {
        Self { code: 130, message: message.to_string() }
    }

    /// Appends to the message and keeps the exit code.
    pub(crate) fn and(self, more: impl Display) -> Self {
        Self { message: format!("{}; {more}", self.message), ..self }
    }

    /// The message for people.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Prints the message to standard error and returns the exit code.
    pub(crate) fn report(self) -> ExitCode {
        if !self.message.is_empty() {
            eprintln!("rbee: {}", self.message);
        }
        ExitCode::from(self.code)
    }
}

impl From<Failure> for CliError {
    fn from(failure: Failure) -> Self {
        if failure.code == FailureCode::TimedOut { Self::unavailable(failure) } else { Self::failed(failure) }
    }
}

impl From<rbee_nats::BusError> for CliError {
    fn from(error: rbee_nats::BusError) -> Self {
        Self::unavailable(error)
    }
}

impl From<rbee_hive::HiveError> for CliError {
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

impl From<rbee_nats::PlanError> for CliError {
    fn from(error: rbee_nats::PlanError) -> Self {
        Self::failed(error)
    }
}
