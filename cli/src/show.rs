//! Tables for people, JSON for programs.

use std::{
    fmt::Display,
    io::{self, Write as _},
};

use comfy_table::{ContentArrangement, Table, presets::NOTHING};
use rbee_schema::{EffectiveLimits, HiveRecord, LimitMethod};
use serde::Serialize;

/// Prints a line of a role, which goes on where nobody reads it: Ctrl-C also ends the other end of a pipe, and the role has
/// yet to stop in order.
pub(crate) fn say(line: impl Display) {
    let _ = try_to_say(line);
}

/// Prints a line where somebody reads it.
pub(crate) fn try_to_say(line: impl Display) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

/// Prints a document as JSON.
pub(crate) fn json<T: Serialize>(document: &T) {
    // What we print are our own documents; JSON can hold all of them.
    println!("{}", serde_json::to_string_pretty(document).unwrap_or_default());
}

/// Prints a table, or `empty` where it has no rows.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: Vec<[String; N]>, empty: &str) {
    if rows.is_empty() {
        return println!("{empty}");
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    table.add_rows(rows);
    for line in table.to_string().lines() {
        println!("{}", line.trim_end());
    }
}

/// A number of bytes for people: `1.4 GiB`.
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

/// What limits a worker and who enforces that: `512 MiB, 1.5 cores by cgroup-v2, 256 files`.
pub(crate) fn limits(in_force: &EffectiveLimits) -> Option<String> {
    let EffectiveLimits { limits, method } = in_force;
    let memory = limits.memory.map(|memory| memory.to_string());
    let cores = limits.cpu_millis.map(|millis| match f64::from(millis) / 1000.0 {
        cores if millis == 1000 => format!("{cores} core"),
        cores => format!("{cores} cores"),
    });
    let files = limits.open_files.map(|files| format!("{files} files"));
    let (enforced, by_nobody) = match method {
        LimitMethod::CgroupV2 | LimitMethod::CgroupV1 => (memory.into_iter().chain(cores).collect::<Vec<_>>(), None),
        LimitMethod::RlimitData => (memory.into_iter().collect(), cores),
    };
    let enforced = (!enforced.is_empty()).then(|| format!("{} by {}", enforced.join(", "), method.as_str()));
    let by_nobody = by_nobody.map(|cores| format!("{cores} by nobody"));
    let parts: Vec<String> = [enforced, by_nobody, files].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Whether a hive takes workers: `online`, `draining`, `degraded: why`.
pub(crate) fn state(hive: &HiveRecord) -> String {
    match (hive.draining, &hive.degraded) {
        (false, None) => "online".to_owned(),
        (true, None) => "draining".to_owned(),
        (false, Some(why)) => format!("degraded: {why}"),
        (true, Some(why)) => format!("draining; degraded: {why}"),
    }
}

/// The date and time of an instant in RFC 3339, without its fractions: `2026-01-31 12:00:00Z`.
pub(crate) fn clock(instant: &str) -> String {
    let whole = instant.split('.').next().unwrap_or(instant);
    format!("{}Z", whole.trim_end_matches('Z').replace('T', " "))
}

/// A value that may be missing.
pub(crate) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use rbee_schema::{ByteSize, Limits};

    use super::*;

    #[test]
    fn limits_are_shown_with_who_enforces_them() {
        let memory = Some(ByteSize(512 << 20));
        for (limits, method, shown) in [
            (Limits { memory, ..Limits::default() }, LimitMethod::CgroupV1, "512 MiB by cgroup-v1"),
            (
                Limits { memory, cpu_millis: Some(1500), open_files: Some(256) },
                LimitMethod::CgroupV2,
                "512 MiB, 1.5 cores by cgroup-v2, 256 files",
            ),
            (
                Limits { memory, cpu_millis: Some(1000), open_files: None },
                LimitMethod::RlimitData,
                "512 MiB by rlimit-data, 1 core by nobody",
            ),
            (Limits { open_files: Some(64), ..Limits::default() }, LimitMethod::RlimitData, "64 files"),
        ] {
            assert_eq!(super::limits(&EffectiveLimits { limits, method }).as_deref(), Some(shown));
        }
        let nothing = EffectiveLimits { limits: Limits::default(), method: LimitMethod::CgroupV2 };
        assert_eq!(super::limits(&nothing), None);
    }

    #[test]
    fn bytes_are_shown_in_the_largest_unit_that_fits() {
        assert_eq!([bytes(0), bytes(1023), bytes(1024), bytes(1_610_612_736)], ["0 B", "1023 B", "1.0 KiB", "1.5 GiB"]);
    }
}
