//! What workers write: one file for each, and its last lines.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use rbee_schema::WorkerName;

/// The most that is read from the end of a file, in bytes.
const TAIL_BYTES: u64 = 8 * 1024;

/// The most lines of it that are told.
const TAIL_LINES: usize = 20;

/// The file that a worker writes to.
pub(crate) fn log_file(data: &Path, worker: &WorkerName) -> PathBuf {
    data.join("logs").join(format!("{worker}.log"))
}

/// The last lines of a file, oldest first; none where it cannot be read.
pub(crate) fn tail(log: &Path) -> Vec<String> {
    let read = || {
        let mut file = File::open(log)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes).map(|_| bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<String> = text.lines().rev().take(TAIL_LINES).map(str::to_owned).collect();
    lines.reverse();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_last_lines_in_order() {
        let log = std::env::temp_dir().join(format!("rbee-tail-{}", std::process::id()));
        let text: String = (0..5_000).map(|line| format!("line {line}\n")).collect();
        std::fs::write(&log, text).expect("written");
        let lines = tail(&log);
        std::fs::remove_file(&log).expect("removed");
        assert_eq!(lines.len(), TAIL_LINES);
        assert_eq!(lines.last().map(String::as_str), Some("line 4999"));
        assert!(tail(&log).is_empty());
    }
}
