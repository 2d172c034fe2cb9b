//! Error of a verb: an exit code for scripts and a message for people.

use std::{fmt::Display, io, process::ExitCode};

use rbee_nats::Denial;
use rbee_schema::{Failure, FailureCode};

use crate::output;

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

    /// The server does not permit an operation (exit code 77, `EX_NOPERM`).
    pub(crate) fn denied(denial: &Denial) -> Self {
        let Denial { subject, message } = denial;
        Self {
            code: 77,
            message: format!(
                "no permission for {subject}: the nats-server says `{message}`. Use another user (--nats \
                 nats://USER:PASSWORD@HOST:4222), or give this one the permission"
            ),
        }
    }

    /// Another process has what this one needs for itself (exit code 75, `EX_TEMPFAIL`).
    pub(crate) fn taken(message: impl Display) -> Self {
        Self { code: 75, message: message.to_string() }
    }

    /// The user pressed Ctrl-C (exit code 130).
    pub(crate) fn interrupted(message: impl Display) -> Self {
        Self { code: 130, message: message.to_string() }
    }

    /// Standard output could not be written (exit code 1). A reader that has ended, such as `head`, is no error.
    pub(crate) fn unwritten(error: &io::Error) -> Self {
        output::unwritten(error).map_or(Self { code: 0, message: String::new() }, Self::failed)
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
            return Self::taken(error);
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
