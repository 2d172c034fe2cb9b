//! An exit as the hive reports it to the state machine.

/// Everything that is known of the exit of a process.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ProcessExit {
    /// Exit code, where the process called exit.
    pub code: Option<i32>,
    /// Number of the signal that ended the process, where one did.
    pub signal: Option<i32>,
    /// True where the kernel killed the process for lack of memory, or the process reported that itself.
    pub out_of_memory: bool,
    /// Last lines of its output.
    pub tail: Vec<String>,
    /// A random number from 0 to 1, for the restart backoff.
    pub draw: f64,
}
