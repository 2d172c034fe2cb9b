//! The error with which a worker process ends.

use std::{any::Any, fmt, panic::AssertUnwindSafe};

use futures::FutureExt as _;

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

impl FatalError {
    /// Writes the failure as the last line, which the hive reads.
    pub fn report(&self) {
        let Self { failure, .. } = self;
        eprintln!("{}", serde_json::to_string(failure).unwrap_or_else(|_| failure.to_string()));
    }

    /// Reports the failure and ends the process at once, whatever else runs. The hive returns the running jobs to the queue.
    fn end_process(&self) -> ! {
        self.report();
        std::process::exit(i32::from(self.exit_code))
    }
}

/// Ends the process because a part of it has panicked that the rest cannot do without. `operation` is what that part did.
pub(crate) fn end_after_panic(operation: &str, panic: &(dyn Any + Send)) -> ! {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked");
    FatalError::internal(operation, text).end_process()
}

/// Runs a task that the process cannot do without: a panic ends the process.
pub(crate) async fn end_process_if_it_panics<T>(operation: &str, task: impl Future<Output = T>) -> T {
    match AssertUnwindSafe(task).catch_unwind().await {
        Ok(value) => value,
        Err(panic) => end_after_panic(operation, panic.as_ref()),
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
