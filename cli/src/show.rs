//! Tables for people, JSON for programs.

use comfy_table::{ContentArrangement, Table, presets::NOTHING};
use serde::Serialize;

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

/// A value that may be missing.
pub(crate) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_in_the_largest_unit_that_fits() {
        assert_eq!([bytes(0), bytes(1023), bytes(1024), bytes(1_610_612_736)], ["0 B", "1023 B", "1.0 KiB", "1.5 GiB"]);
    }
}
