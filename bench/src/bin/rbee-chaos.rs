//! `rbee-chaos`: injects every fault of `rbee_tests::chaos` many times and prints how long each took. `make chaos` builds
//! what it needs and runs it.
//!
//! Ends with code 1 when an outcome or an invariant was not what it must be; a bound that was passed is marked, since a
//! busy machine passes one.

use std::{
    collections::BTreeSet,
    panic::AssertUnwindSafe,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use futures::FutureExt as _;
use rbee_bench::{machine, table::Samples};
use rbee_tests::chaos::{FAULTS, Fault, Measured, TIMERS};

/// Injects faults into fleets on this machine and measures what becomes of them.
#[derive(Debug, Parser)]
#[command(name = "rbee-chaos", version, max_term_width = 100)]
struct Options {
    /// How often each fault is injected, each time into a fleet of its own.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Which faults; all where none is named.
    #[arg(long, value_name = "FAULT", num_args = 1.., value_parser = FAULTS.iter().map(|fault| fault.name).collect::<Vec<_>>())]
    only: Vec<String>,
}

/// What the runs of one fault came to.
struct Row {
    fault: &'static Fault,
    runs: u32,
    measured: Vec<Measured>,
    took: Duration,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let Options { runs, only } = Options::parse();
    let only: BTreeSet<&str> = only.iter().map(String::as_str).collect();
    let mut rows = Vec::new();
    for fault in FAULTS.iter().filter(|fault| only.is_empty() || only.contains(fault.name)) {
        if let Some(why) = fault.impossible() {
            eprintln!("{} is left out: {why}", fault.name);
            continue;
        }
        rows.push(repeat(fault, runs).await);
    }
    print(&rows);
    let is_well = rows.iter().all(Row::is_well);
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Injects one fault again and again. A run that fails says why on standard error.
async fn repeat(fault: &'static Fault, runs: u32) -> Row {
    let begun = Instant::now();
    let mut measured = Vec::new();
    for run in 1..=runs {
        match AssertUnwindSafe(fault.run()).catch_unwind().await {
            Ok(outcome) => measured.push(outcome),
            Err(_) => eprintln!("{}: run {run} of {runs} failed; what must be: {}", fault.name, fault.outcome),
        }
    }
    let row = Row { fault, runs, measured, took: begun.elapsed() };
    eprintln!("{}: {} of {runs} in {:.0?}", fault.name, row.measured.len(), row.took);
    row
}

impl Row {
    fn is_well(&self) -> bool {
        self.measured.len() == self.runs as usize
    }
}

fn print(rows: &[Row]) {
    println!("{}", machine::facts());
    println!(
        "\nTimes are p50 / max, from the injection (a) to the event that tells of it and (b) to the moment at which the \
         thing works again, and from the moment at which the cause is taken away (c) to that at which everything is as \
         before. Bounds hold under shortened timers (`--timers {TIMERS}`, and what a row says); `!` marks one \
         that was passed.\n"
    );
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header([
        "fault",
        "injected",
        "detected (a)",
        "bound",
        "recovered (b)",
        "bound",
        "healed (c)",
        "bound",
        "runs ok",
    ]);
    for row in rows {
        let Row { fault, runs, measured, .. } = row;
        let detected = times(measured.iter().filter_map(|run| run.detected), fault.detected_within);
        let recovered = times(measured.iter().filter_map(|run| run.recovered), fault.recovered_within);
        let healed = times(measured.iter().filter_map(|run| run.healed), fault.healed_within);
        table.add_row([
            fault.name.to_owned(),
            fault.injected.to_owned(),
            detected,
            bound(fault.detected_within),
            recovered,
            bound(fault.recovered_within),
            healed,
            bound(fault.healed_within),
            format!("{}/{runs}", measured.len()),
        ]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
}

/// `p50 / max`, and whether the largest is beyond the bound.
fn times(values: impl Iterator<Item = Duration>, bound: Option<Duration>) -> String {
    let values: Vec<Duration> = values.collect();
    let Some(most) = values.iter().max().copied() else { return "-".to_owned() };
    let samples = Samples::times(values);
    let mark = if bound.is_some_and(|bound| most > bound) { " !" } else { "" };
    format!("{} / {}{mark}", samples.shown_median(), samples.shown_most())
}

fn bound(bound: Option<Duration>) -> String {
    bound.map_or("-".to_owned(), |bound| format!("{bound:?}"))
}
