//! Default of `--patience` for commands to hives.

use std::time::Duration;

/// Longest wait for an event of a hive. A worker takes up to 30 s to finish its jobs and 10 s more to end; a hive that
/// fetches a file reports progress more often than that.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
