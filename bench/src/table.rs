//! Samples, and the tables in which they are printed.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets::NOTHING};

/// One quantity, measured several times.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    /// Values in rising order; at least one.
    values: Vec<f64>,
    unit: Unit,
}

/// Unit of a quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A duration.
    Seconds,
    /// Events per second.
    PerSecond,
    /// Quotient of two quantities.
    Ratio,
    /// Fraction of a whole.
    Share,
    /// A size in bytes.
    Bytes,
}

impl Unit {
    /// Name of the unit in JSON output.
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
    /// Durations in seconds. A difference of two durations may be negative.
    pub fn seconds(values: impl IntoIterator<Item = f64>) -> Self {
        Self::of(values, Unit::Seconds)
    }

    /// Durations.
    pub fn times(values: impl IntoIterator<Item = Duration>) -> Self {
        Self::seconds(values.into_iter().map(|value| value.as_secs_f64()))
    }

    /// Events per second.
    pub fn rates(values: impl IntoIterator<Item = f64>) -> Self {
        Self::of(values, Unit::PerSecond)
    }

    /// Quotients of two quantities.
    pub fn ratios(values: impl IntoIterator<Item = f64>) -> Self {
        Self::of(values, Unit::Ratio)
    }

    /// Fractions of a whole, such as of a core.
    pub fn shares(values: impl IntoIterator<Item = f64>) -> Self {
        Self::of(values, Unit::Share)
    }

    /// Sizes in bytes.
    pub fn sizes(values: impl IntoIterator<Item = u64>) -> Self {
        Self::of(values.into_iter().map(|value| value as f64), Unit::Bytes)
    }

    /// Samples of any unit.
    ///
    /// # Panics
    /// When there is no value.
    pub fn of(values: impl IntoIterator<Item = f64>, unit: Unit) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        assert!(!values.is_empty(), "at least one value was measured");
        values.sort_by(f64::total_cmp);
        Self { values, unit }
    }

    /// The median with its unit.
    pub fn shown_median(&self) -> String {
        show(self.median(), self.unit)
    }

    /// The largest value with its unit.
    pub fn shown_most(&self) -> String {
        show(self.most(), self.unit)
    }

    /// The smallest value with its unit.
    pub fn shown_least(&self) -> String {
        show(self.least(), self.unit)
    }

    /// The smallest value.
    pub fn least(&self) -> f64 {
        self.percentile(0)
    }

    /// The largest value.
    pub fn most(&self) -> f64 {
        self.percentile(100)
    }

    /// The smallest value that at least `percent` of the values do not exceed (the nearest rank).
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

/// Prints a table under a title. Each row is a name and its samples.
pub fn print(title: &str, rows: &[(&str, Samples)]) {
    println!("\n{title}");
    let header = ["", "median", "p10", "p90", "p99", "max", "runs"];
    aligned(
        &header,
        rows.iter().map(|(name, samples)| {
            let shown = |value| show(value, samples.unit);
            // Fewer than 100 runs have no meaningful 99th percentile.
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
    fn median_is_the_value_in_the_middle() {
        assert_eq!(Samples::seconds([3.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(Samples::seconds([4.0, 1.0, 2.0, 3.0]).median(), 2.5);
        assert_eq!(Samples::seconds([7.0]).median(), 7.0);
    }

    #[test]
    fn percentile_is_a_measured_value() {
        let hundred = Samples::seconds((1..=100).map(f64::from));
        assert_eq!([1, 10, 90, 99, 100].map(|percent| hundred.percentile(percent)), [1.0, 10.0, 90.0, 99.0, 100.0]);
        let three = Samples::seconds([1.0, 2.0, 3.0]);
        assert_eq!([0, 10, 34, 90].map(|percent| three.percentile(percent)), [1.0, 1.0, 2.0, 3.0]);
    }

    #[test]
    fn durations_are_printed_in_a_fitting_unit() {
        let shown = [0.000_052, 0.000_38, 0.0123, 0.25, 1.5, -0.000_38].map(|value| show(value, Unit::Seconds));
        assert_eq!(shown, ["52.0 us", "0.38 ms", "12.30 ms", "250 ms", "1.50 s", "-0.38 ms"]);
        assert_eq!([show(43.21, Unit::PerSecond), show(1234.5, Unit::PerSecond)], ["43.2/s", "1234/s"]);
        assert_eq!(show(0.98765, Unit::Ratio), "0.988");
        assert_eq!([show(0.1234, Unit::Share), show(1.5e8, Unit::Bytes)], ["12.3 %", "143.1 MiB"]);
    }
}
