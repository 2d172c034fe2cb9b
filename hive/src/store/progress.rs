//! Progress of a fetch.

/// Stage of a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The hub's listing is requested; the size is not known yet.
    Listing,
    /// Another process fetches the file; this one waits.
    Waiting,
    /// Bytes on the disk are read and checked.
    Checking,
    /// Bytes are fetched.
    Fetching,
}

/// Progress of a fetch. Reported at 0 and at 100 %, and at most ten times a second between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Current stage.
    pub stage: Stage,
    /// Bytes fetched so far.
    pub done_bytes: u64,
    /// Size of the file in bytes; 0 while it is unknown.
    pub total_bytes: u64,
}
