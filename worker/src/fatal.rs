//! The error with which a worker process ends.

use std::fmt;

use rbee_schema::{Failure, FailureCode};

/// The worker cannot do its work. Exit codes are those of sysexits.h.
#[derive(Debug)]
pub struct FatalError {
    /// The failure that the process reports as its last line.
    pub failure: Failure,
    /// Exit code of the process.
    pub exit_code: u8,
}

/// EX_DATAERR: the model cannot be used.
const DATA_ERROR: u8 = 65;
/// EX_UNAVAILABLE: the bus cannot be reached.
const UNAVAILABLE: u8 = 69;
/// EX_SOFTWARE: the worker itself is at fault.
const INTERNAL_ERROR: u8 = 70;
/// EX_CONFIG: the options are wrong.
const CONFIG_ERROR: u8 = 78;

impl FatalError {
    /// The options are wrong.
    pub fn config(cause: impl fmt::Display) -> Self {
        let failure = Failure::new(FailureCode::InvalidRequest, cause.to_string());
        Self { failure, exit_code: CONFIG_ERROR }
    }

    /// The worker failed to do something that does not depend on its options.
    pub(crate) fn internal(operation: &str, cause: impl fmt::Display) -> Self {
        let failure = Failure::new(FailureCode::Internal, format!("failed to {operation}: {cause}"));
        Self { failure, exit_code: INTERNAL_ERROR }
    }

    /// The bus cannot be reached.
    pub(crate) fn bus(cause: impl fmt::Display) -> Self {
        let failure = Failure::new(FailureCode::TimedOut, cause.to_string());
        Self { failure, exit_code: UNAVAILABLE }
    }
}

impl From<Failure> for FatalError {
    /// The model cannot be used, or the options require something that it cannot do.
    fn from(failure: Failure) -> Self {
        let exit_code = match failure.code {
            FailureCode::InvalidRequest | FailureCode::DeviceMissing | FailureCode::OutOfMemory => CONFIG_ERROR,
            _ => DATA_ERROR,
        };
        Self { failure, exit_code }
    }
}
