//! Log of nats-server: the lines that say why a server did not start. The only place that depends on its format; a test
//! holds it against a real server.

/// Number of lines that are shown if the log has no error: the last ones.
const TAIL: usize = 5;

/// Text of a bind error that means that the port is taken.
const TAKEN: &str = "address already in use";

/// Lines of a server's log that say why it did not start: those of fatal and other errors, without time and process id. If
/// there are none, the last lines. Only lines of process `pid` count: the file may hold earlier runs.
pub(crate) fn cause(log: &str, pid: u32) -> Vec<String> {
    let process = format!("[{pid}] ");
    let lines: Vec<&str> = log.lines().filter(|line| line.starts_with(&process)).collect();
    let errors: Vec<String> = lines.iter().filter_map(|line| error(line)).collect();
    if !errors.is_empty() {
        return errors;
    }
    let all: Vec<&str> = if lines.is_empty() { log.lines().collect() } else { lines };
    all[all.len().saturating_sub(TAIL)..].iter().map(|line| (*line).to_owned()).collect()
}

/// True if the lines say that an address of the server is taken.
pub(crate) fn is_address_taken(cause: &[String]) -> bool {
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
}
