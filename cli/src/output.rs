//! Output of verbs: tables and lines for people, JSON for programs.

use std::{
    fmt::{Arguments, Display},
    io::{self, ErrorKind, Write as _},
    process,
    time::Duration,
};

use comfy_table::{ContentArrangement, Table, presets::NOTHING};
use rbee_schema::{EffectiveLimits, HiveRecord, LimitMethod, WorkerExit};
use serde::Serialize;

/// Prints a line and ignores a closed pipe. Ctrl-C also ends the reader of a pipe, and a role must still stop gracefully
/// afterwards.
pub(crate) fn print_line(line: impl Display) {
    let _ = try_print_line(line);
}

/// Prints a line.
///
/// # Errors
/// Standard output is closed: the reader of the pipe has ended.
pub(crate) fn try_print_line(line: impl Display) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

/// Prints a line to standard output, as `println!` does. Where nobody reads the output any more, the process ends quietly; where
/// it cannot be written, with an error. For verbs that have nothing to undo.
macro_rules! say {
    ($($argument:tt)*) => { $crate::output::print_or_end(format_args!("{}\n", format_args!($($argument)*))) };
}
pub(crate) use say;

/// Prints text to standard output, or ends the process: see [`say`].
pub(crate) fn print_or_end(text: Arguments<'_>) {
    if let Err(error) = try_print(text) {
        process::exit(match unwritten(&error) {
            None => 0,
            Some(message) => {
                eprintln!("rbee: {message}");
                1
            }
        });
    }
}

/// Prints text at once.
///
/// # Errors
/// Standard output is closed, or cannot be written.
pub(crate) fn try_print(text: Arguments<'_>) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_fmt(text)?;
    output.flush()
}

/// Writes bytes to standard output.
///
/// # Errors
/// Standard output is closed, or cannot be written.
pub(crate) fn try_write(bytes: &[u8]) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(bytes)?;
    output.flush()
}

/// Message about output that could not be written. `None` if its reader has ended, which is no error.
pub(crate) fn unwritten(error: &io::Error) -> Option<String> {
    (error.kind() != ErrorKind::BrokenPipe).then(|| format!("failed to write to standard output: {error}"))
}

/// Prints a document as indented JSON.
pub(crate) fn json<T: Serialize>(document: &T) {
    // Only our own documents are printed, and JSON can represent all of them.
    say!("{}", serde_json::to_string_pretty(document).unwrap_or_default());
}

/// Prints a table, or the text `empty` if it has no rows.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: Vec<[String; N]>, empty: &str) {
    if rows.is_empty() {
        return say!("{empty}");
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    table.add_rows(rows);
    for line in table.to_string().lines() {
        say!("{}", line.trim_end());
    }
}

/// Number of bytes in the largest unit that fits: `1.4 GiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// Limits of a worker and what enforces them: `512 MiB, 1.5 cores by cgroup-v2, 256 files`. None if nothing is limited.
pub(crate) fn limits(in_force: &EffectiveLimits) -> Option<String> {
    let EffectiveLimits { limits, method } = in_force;
    let memory = limits.memory.map(|memory| memory.to_string());
    let cores = limits.cpu_millis.map(|millis| match f64::from(millis) / 1000.0 {
        cores if millis == 1000 => format!("{cores} core"),
        cores => format!("{cores} cores"),
    });
    let files = limits.open_files.map(|files| format!("{files} files"));
    let (enforced, not_enforced) = match method {
        LimitMethod::CgroupV2 | LimitMethod::CgroupV1 => (memory.into_iter().chain(cores).collect::<Vec<_>>(), None),
        LimitMethod::RlimitData => (memory.into_iter().collect(), cores),
    };
    let enforced = (!enforced.is_empty()).then(|| format!("{} by {}", enforced.join(", "), method.as_str()));
    let not_enforced = not_enforced.map(|cores| format!("{cores} not enforced"));
    let parts: Vec<String> = [enforced, not_enforced, files].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Manner in which a worker ended, such as `signal 6` or `oom, signal 9`.
pub(crate) fn describe_exit(WorkerExit { class, code, signal, oom, .. }: &WorkerExit) -> String {
    match (signal, code) {
        (Some(signal), _) if *oom => format!("out of memory, signal {signal}"),
        (Some(signal), _) => format!("signal {signal}"),
        (None, Some(code)) => format!("exit code {code}"),
        (None, None) => class.to_string(),
    }
}

/// A duration for people: `20 ms`, `1.5 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    if duration < SECOND { format!("{} ms", duration.as_millis()) } else { format!("{:.1} s", duration.as_secs_f64()) }
}

/// Duration from which on a fraction of a second matters no more than its tenths.
const SECOND: Duration = Duration::from_secs(1);

/// State of a connected hive: `online`, `draining`, or `degraded: why`.
pub(crate) fn hive_state(hive: &HiveRecord) -> String {
    match (hive.draining, &hive.degraded) {
        (false, None) => "online".to_owned(),
        (true, None) => "draining".to_owned(),
        (false, Some(why)) => format!("degraded: {why}"),
        (true, Some(why)) => format!("draining; degraded: {why}"),
    }
}

/// An RFC 3339 timestamp for people, without fractions of a second: `2026-01-31 12:00:00Z`.
pub(crate) fn timestamp(rfc3339: &str) -> String {
    let whole = rfc3339.split('.').next().unwrap_or(rfc3339);
    format!("{}Z", whole.trim_end_matches('Z').replace('T', " "))
}

/// The value, or `-` if there is none.
pub(crate) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use rbee_schema::{ByteSize, Limits};

    use super::*;

    #[test]
    fn limits_are_printed_with_what_enforces_them() {
        let memory = Some(ByteSize(512 << 20));
        for (limits, method, expected) in [
            (Limits { memory, ..Limits::default() }, LimitMethod::CgroupV1, "512 MiB by cgroup-v1"),
            (
                Limits { memory, cpu_millis: Some(1500), open_files: Some(256) },
                LimitMethod::CgroupV2,
                "512 MiB, 1.5 cores by cgroup-v2, 256 files",
            ),
            (
                Limits { memory, cpu_millis: Some(1000), open_files: None },
                LimitMethod::RlimitData,
                "512 MiB by rlimit-data, 1 core not enforced",
            ),
            (Limits { open_files: Some(64), ..Limits::default() }, LimitMethod::RlimitData, "64 files"),
        ] {
            assert_eq!(super::limits(&EffectiveLimits { limits, method }).as_deref(), Some(expected));
        }
        let nothing = EffectiveLimits { limits: Limits::default(), method: LimitMethod::CgroupV2 };
        assert_eq!(super::limits(&nothing), None);
    }

    #[test]
    fn bytes_are_printed_in_the_largest_unit_that_fits() {
        assert_eq!([bytes(0), bytes(1023), bytes(1024), bytes(1_610_612_736)], ["0 B", "1023 B", "1.0 KiB", "1.5 GiB"]);
    }

    #[test]
    fn a_timestamp_is_printed_without_fractions() {
        for rfc3339 in ["2026-01-31T12:00:00.123Z", "2026-01-31T12:00:00Z"] {
            assert_eq!(timestamp(rfc3339), "2026-01-31 12:00:00Z");
        }
    }

    #[test]
    fn a_hive_state_names_drain_and_degradation() {
        let state = |more: &str| {
            let record = format!(r#"{{"epoch":1,"version":"0","host":"h","first_port":1,"last_port":2{more}}}"#);
            hive_state(&serde_json::from_str(&record).expect("a record"))
        };
        assert_eq!(state(""), "online");
        assert_eq!(state(r#","draining":true"#), "draining");
        assert_eq!(state(r#","degraded":"low""#), "degraded: low");
        assert_eq!(state(r#","draining":true,"degraded":"low""#), "draining; degraded: low");
    }
}
