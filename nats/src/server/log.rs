//! Log of nats-server: the lines that say why a server did not start, or that it could not write. The only place that depends
//! on its format; tests hold it against a real server.

use std::{
    fs,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::PathBuf,
};

/// Number of lines that are shown if the log has no error: the last ones.
const TAIL: usize = 5;

/// Text of a bind error that means that the port is taken.
const TAKEN: &str = "address already in use";

/// Texts of a failed write to a disk or quota that is full.
const NO_SPACE: [&str; 2] = ["no space left on device", "disk quota exceeded"];

/// Number of errors that are shown: the last ones. A server repeats an error for every message.
const ERRORS: usize = 3;

/// Log of a running server.
#[derive(Debug)]
pub(super) struct ServerLog {
    /// Path of the file.
    pub(super) path: PathBuf,
    /// Process id of the server: the file may hold lines of earlier ones.
    pub(super) pid: u32,
    /// Length up to which failed writes were looked for, in bytes.
    pub(super) read: u64,
}

impl ServerLog {
    /// The last errors of the server.
    pub(super) fn errors(&self) -> Vec<String> {
        errors(&String::from_utf8_lossy(&fs::read(&self.path).unwrap_or_default()), self.pid)
    }

    /// True if the server has failed to write since the last call, as far as it could log that.
    pub(super) fn has_failed_to_write(&mut self) -> bool {
        self.new_lines().is_ok_and(|new| has_failed_to_write(&new, self.pid))
    }

    /// Whole lines since the last call.
    fn new_lines(&mut self) -> io::Result<String> {
        let mut log = fs::File::open(&self.path)?;
        log.seek(SeekFrom::Start(self.read))?;
        let mut new = Vec::new();
        log.read_to_end(&mut new)?;
        let whole = new.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.read += whole as u64;
        Ok(String::from_utf8_lossy(&new[..whole]).into_owned())
    }
}

/// Lines of a server's log that say why it did not start: those of fatal and other errors, without time and process id. If
/// there are none, the last lines. Only lines of process `pid` count: the file may hold earlier runs.
pub(super) fn cause(log: &str, pid: u32) -> Vec<String> {
    let errors = errors(log, pid);
    if !errors.is_empty() {
        return errors;
    }
    let lines: Vec<&str> = lines_of(log, pid).collect();
    let all: Vec<&str> = if lines.is_empty() { log.lines().collect() } else { lines };
    all[all.len().saturating_sub(TAIL)..].iter().map(|line| (*line).to_owned()).collect()
}

/// The last errors in the lines of process `pid`, without time and process id.
fn errors(log: &str, pid: u32) -> Vec<String> {
    let errors: Vec<String> = lines_of(log, pid).filter_map(error).collect();
    errors[errors.len().saturating_sub(ERRORS)..].to_vec()
}

/// True if a line of process `pid` says that a write failed because the disk is full.
fn has_failed_to_write(log: &str, pid: u32) -> bool {
    lines_of(log, pid).any(|line| NO_SPACE.iter().any(|text| line.contains(text)))
}

fn lines_of(log: &str, pid: u32) -> impl Iterator<Item = &str> {
    let process = format!("[{pid}] ");
    log.lines().filter(move |line| line.starts_with(&process))
}

/// True if the lines say that an address of the server is taken.
pub(super) fn is_address_taken(cause: &[String]) -> bool {
    cause.iter().any(|line| line.contains(TAKEN))
}

/// Message of a line with level fatal or error: `[PID] DATE TIME [FTL] message`.
fn error(line: &str) -> Option<String> {
    ["[FTL] ", "[ERR] "].iter().find_map(|level| line.split_once(level)).map(|(_, message)| message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
[7] 2026/11/30 21:00:00.000001 [INF] Starting nats-server
[7] 2026/11/30 21:00:00.000002 [FTL] Error listening on port: 127.0.0.1:1, \"listen tcp 127.0.0.1:1: bind: permission denied\"
[8] 2026/11/30 21:55:06.152587 [INF] Starting nats-server
[8] 2026/11/30 21:55:06.152641 [WRN] Plaintext passwords detected, use nkeys or bcrypt
[8] 2026/11/30 21:55:06.157287 [FTL] Error listening on port: 127.0.0.1:4222, \"listen tcp 127.0.0.1:4222: bind: address already in use\"
[8] 2026/11/30 21:55:06.157291 [INF] Initiating Shutdown...
[8] 2026/11/30 21:55:06.157293 [INF] Trapped \"terminated\" signal
[8] 2026/11/30 21:55:06.157294 [INF] Initiating JetStream Shutdown...
[8] 2026/11/30 21:55:06.157296 [INF] JetStream Shutdown
[8] 2026/11/30 21:55:06.157297 [INF] Server Exiting..
";

    #[test]
    fn the_fatal_line_of_this_run_is_the_cause() {
        let found = cause(LOG, 8);
        let expected =
            "Error listening on port: 127.0.0.1:4222, \"listen tcp 127.0.0.1:4222: bind: address already in use\"";
        assert_eq!(found, [expected]);
        assert!(is_address_taken(&found));
        let earlier = cause(LOG, 7);
        assert!(earlier.len() == 1 && earlier[0].ends_with("bind: permission denied\""), "{earlier:?}");
        assert!(!is_address_taken(&earlier));
    }

    #[test]
    fn without_an_error_the_last_lines_are_shown() {
        let log: String = (1..=7).map(|number| format!("[9] 2026/11/30 [INF] line {number}\n")).collect();
        let found = cause(&log, 9);
        assert_eq!(found.len(), TAIL);
        assert!(found[0].ends_with("line 3") && found[4].ends_with("line 7"), "{found:?}");
        assert_eq!(cause("no format that we know\n", 9), ["no format that we know"]);
        assert_eq!(cause("", 9), [""; 0]);
    }

    #[test]
    fn a_failed_write_is_found_once() {
        use std::io::Write as _;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let line = |pid: u32, end: &str| format!("[{pid}] 2026/12/01 01:00:00.0 [ERR] write 1.blk: {end}");
        fs::write(&path, format!("{}\n", line(7, NO_SPACE[0]))).expect("written");
        let read = fs::metadata(&path).expect("there").len();
        let mut log = ServerLog { path: path.clone(), pid: 7, read };
        assert!(!log.has_failed_to_write(), "the line is of an earlier run");
        let append = |text: &str| {
            let mut file = fs::File::options().append(true).open(&path).expect("there");
            file.write_all(text.as_bytes()).expect("written");
        };
        append(&line(7, NO_SPACE[1]));
        assert!(!log.has_failed_to_write(), "the line is not whole yet");
        append("\n");
        assert_eq!([log.has_failed_to_write(), log.has_failed_to_write()], [true, false]);
        append(&format!("{}\n{}\n", line(8, NO_SPACE[0]), line(7, "fine")));
        assert!(!log.has_failed_to_write());
    }
}
