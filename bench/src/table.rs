//! Samples and the tables that they are printed in.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets::NOTHING};

/// One quantity, measured several times.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    /// In rising order; at least one.
    values: Vec<f64>,
    unit: Unit,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Time.
    Seconds,
    /// Events per second.
    PerSecond,
    /// How many times as much.
    Ratio,
    /// Parts of a whole.
    Share,
    /// A size.
    Bytes,
}

impl Unit {
    /// For programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::PerSecond => "per second",
            Self::Ratio => "ratio",
            Self::Share => "share",
            Self::Bytes => "bytes",
        }
    }
}

impl Samples {
    /// Times. A difference of two times may be negative, so these are seconds.
    pub fn seconds(values: impl IntoIterator<Item = f64>) -> Self {
        Self::of(values, Unit::Seconds)
    }

    /// Times.
    pub fn times(values: impl IntoIterator<Item = Duration>) -> Self {
        Self::seconds(values.into_iter().map(|value| value.as_secs_f64()))
    }

    /// Events per second.
    pub fn rates(values: impl IntoIterator<Item = f64>) -> Self {
        Self::of(values, Unit::PerSecond)
    }

    /// How many times as much.
    pub fn ratios(values: impl IntoIterator<Item = f64>) -> Self {
        Self::of(values, Unit::Ratio)
    }

    /// Parts of a whole, such as of a core.
    pub fn shares(values: impl IntoIterator<Item = f64>) -> Self {
        Self::of(values, Unit::Share)
    }

    /// Sizes in bytes.
    pub fn sizes(values: impl IntoIterator<Item = u64>) -> Self {
        Self::of(values.into_iter().map(|value| value as f64), Unit::Bytes)
    }

    /// Of any unit.
    ///
    /// # Panics
    /// Without a value.
    pub fn of(values: impl IntoIterator<Item = f64>, unit: Unit) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        assert!(!values.is_empty(), "something was measured");
        values.sort_by(f64::total_cmp);
        Self { values, unit }
    }

    /// The median, in words.
    pub fn shown_median(&self) -> String {
        show(self.median(), self.unit)
    }

    /// The largest, in words.
    pub fn shown_most(&self) -> String {
        show(self.most(), self.unit)
    }

    /// The smallest, in words.
    pub fn shown_least(&self) -> String {
        show(self.least(), self.unit)
    }

    /// The smallest.
    pub fn least(&self) -> f64 {
        self.percentile(0)
    }

    /// The largest.
    pub fn most(&self) -> f64 {
        self.percentile(100)
    }

    /// The least value that at least `percent` of the values do not exceed (the nearest rank).
    fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.values.len() * percent).div_ceil(100).max(1);
        self.values[rank - 1]
    }

    /// The value in the middle; of an even number, the mean of the two in the middle.
    pub fn median(&self) -> f64 {
        let middle = self.values.len() / 2;
        if self.values.len() % 2 == 1 {
            self.values[middle]
        } else {
            f64::midpoint(self.values[middle - 1], self.values[middle])
        }
    }
}

/// Prints a table under a title. Each row is a name and what was measured.
pub fn print(title: &str, rows: &[(&str, Samples)]) {
    println!("\n{title}");
    let header = ["", "median", "p10", "p90", "p99", "max", "runs"];
    aligned(
        &header,
        rows.iter().map(|(name, samples)| {
            let shown = |value| show(value, samples.unit);
            // Fewer runs than that have no 99th percentile to speak of.
            let p99 = if samples.values.len() >= 100 { shown(samples.percentile(99)) } else { "-".to_owned() };
            let (p10, p90, max) = (samples.percentile(10), samples.percentile(90), samples.percentile(100));
            let runs = samples.values.len().to_string();
            vec![(*name).to_owned(), shown(samples.median()), shown(p10), shown(p90), p99, shown(max), runs]
        }),
    );
}

/// Prints rows under a header, all but the first column flush right.
pub fn aligned(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header).add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for line in table.to_string().lines() {
        println!("{}", line.trim_end());
    }
}

fn show(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Seconds if value.abs() < 0.0001 => format!("{:.1} us", value * 1e6),
        Unit::Seconds if value.abs() < 0.1 => format!("{:.2} ms", value * 1e3),
        Unit::Seconds if value.abs() < 1.0 => format!("{:.0} ms", value * 1e3),
        Unit::Seconds => format!("{value:.2} s"),
        Unit::PerSecond if value < 100.0 => format!("{value:.1}/s"),
        Unit::PerSecond => format!("{value:.0}/s"),
        Unit::Ratio => format!("{value:.3}"),
        Unit::Share => format!("{:.1} %", value * 100.0),
        Unit::Bytes => format!("{:.1} MiB", value / f64::from(1 << 20)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_value_in_the_middle() {
        assert_eq!(Samples::seconds([3.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(Samples::seconds([4.0, 1.0, 2.0, 3.0]).median(), 2.5);
        assert_eq!(Samples::seconds([7.0]).median(), 7.0);
    }

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let hundred = Samples::seconds((1..=100).map(f64::from));
        assert_eq!([1, 10, 90, 99, 100].map(|percent| hundred.percentile(percent)), [1.0, 10.0, 90.0, 99.0, 100.0]);
        let three = Samples::seconds([1.0, 2.0, 3.0]);
        assert_eq!([0, 10, 34, 90].map(|percent| three.percentile(percent)), [1.0, 1.0, 2.0, 3.0]);
    }

    #[test]
    fn times_are_shown_in_the_unit_that_fits() {
        let shown = [0.000_052, 0.000_38, 0.0123, 0.25, 1.5, -0.000_38].map(|value| show(value, Unit::Seconds));
        assert_eq!(shown, ["52.0 us", "0.38 ms", "12.30 ms", "250 ms", "1.50 s", "-0.38 ms"]);
        assert_eq!([show(43.21, Unit::PerSecond), show(1234.5, Unit::PerSecond)], ["43.2/s", "1234/s"]);
        assert_eq!(show(0.98765, Unit::Ratio), "0.988");
        assert_eq!([show(0.1234, Unit::Share), show(1.5e8, Unit::Bytes)], ["12.3 %", "143.1 MiB"]);
    }
}
