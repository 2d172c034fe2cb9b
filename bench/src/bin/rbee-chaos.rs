//! `rbee-chaos`: injects every fault of `rbee_tests::chaos` several times and prints the times of detection and recovery.
//! `make chaos` builds and runs it.
//!
//! It exits with code 1 when an outcome or an invariant was violated. A time above its limit is only marked, because a busy
//! machine exceeds limits.

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
use rbee_tests::chaos::{FAULTS, Fault, Measured, RandomFaults, RandomModel, Survived, TIMERS};

/// Injects faults into fleets on this machine, and measures detection and recovery.
#[derive(Debug, Parser)]
#[command(name = "rbee-chaos", version, max_term_width = 100)]
struct Options {
    /// Number of injections of each fault, each into a new fleet.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Faults to inject [default: all].
    #[arg(long, value_name = "FAULT", num_args = 1.., value_parser = FAULTS.iter().map(|fault| fault.name).collect::<Vec<_>>())]
    only: Vec<String>,
    /// Inject random faults, about one each second, while jobs run.
    #[arg(long, conflicts_with_all = ["runs", "only"])]
    random: bool,
    /// Number of jobs under random faults.
    #[arg(long, default_value_t = 1000, requires = "random")]
    jobs: u32,
    /// Seed of the random faults [default: drawn and printed].
    #[arg(long, requires = "random")]
    seed: Option<u64>,
    /// Let a real model answer the jobs, instead of the mock engine.
    #[arg(long, requires = "random")]
    real: bool,
}

/// Results of the runs of one fault.
struct Row {
    fault: &'static Fault,
    runs: u32,
    measured: Vec<Measured>,
    took: Duration,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let Options { runs, only, random, jobs, seed, real } = Options::parse();
    if random {
        let model = if real { RandomModel::Real } else { RandomModel::Mock };
        return survive(jobs, seed.unwrap_or_else(|| fastrand::u64(..1 << 32)), model).await;
    }
    let only: BTreeSet<&str> = only.iter().map(String::as_str).collect();
    let mut rows = Vec::new();
    for fault in FAULTS.iter().filter(|fault| only.is_empty() || only.contains(fault.name)) {
        if let Some(why) = fault.impossible() {
            eprintln!("{} is skipped: {why}", fault.name);
            continue;
        }
        rows.push(repeat(fault, runs).await);
    }
    print(&rows);
    let is_ok = rows.iter().all(Row::is_ok);
    if is_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs jobs under random faults.
async fn survive(jobs: u32, seed: u64, model: RandomModel) -> ExitCode {
    eprintln!("random faults with --seed {seed}");
    let faults = RandomFaults { seed, jobs, model, pause: Duration::from_secs(1) };
    let Ok(survived) = AssertUnwindSafe(faults.run()).catch_unwind().await else {
        eprintln!("random faults with --seed {seed} broke a promise; see above");
        return ExitCode::FAILURE;
    };
    println!("{}", machine::facts());
    let Survived { faults, jobs, longest_gap, took } = survived;
    let total: u32 = faults.values().sum();
    println!(
        "\n{jobs} jobs were answered once and rightly in {took:.0?} under {total} faults (seed {seed}): {faults:?}"
    );
    println!("The longest time without a chunk of a job was {longest_gap:.1?}.");
    ExitCode::SUCCESS
}

/// Injects one fault `runs` times. A failed run prints its reason to standard error.
async fn repeat(fault: &'static Fault, runs: u32) -> Row {
    let begun = Instant::now();
    let mut measured = Vec::new();
    for run in 1..=runs {
        match AssertUnwindSafe(fault.run()).catch_unwind().await {
            Ok(outcome) => measured.push(outcome),
            Err(_) => eprintln!("{}: run {run} of {runs} failed; required outcome: {}", fault.name, fault.outcome),
        }
    }
    let row = Row { fault, runs, measured, took: begun.elapsed() };
    eprintln!("{}: {} of {runs} runs passed in {:.0?}", fault.name, row.measured.len(), row.took);
    row
}

impl Row {
    fn is_ok(&self) -> bool {
        self.measured.len() == self.runs as usize
    }
}

fn print(rows: &[Row]) {
    println!("{}", machine::facts());
    println!(
        "\nTimes are median / maximum: (a) from the injection to the event that reports it, (b) from the injection until the \
         service works again, (c) from the removal of the cause until everything is as before. Limits apply with shortened \
         timers (`--timers {TIMERS}`, plus those named in a row); `!` marks a time above its limit.\n"
    );
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header([
        "fault",
        "injected",
        "detected (a)",
        "limit",
        "recovered (b)",
        "limit",
        "healed (c)",
        "limit",
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
            shown_limit(fault.detected_within),
            recovered,
            shown_limit(fault.recovered_within),
            healed,
            shown_limit(fault.healed_within),
            format!("{}/{runs}", measured.len()),
        ]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
}

/// `median / maximum`, with a mark if the maximum is above the limit.
fn times(values: impl Iterator<Item = Duration>, limit: Option<Duration>) -> String {
    let values: Vec<Duration> = values.collect();
    let Some(most) = values.iter().max().copied() else { return "-".to_owned() };
    let samples = Samples::times(values);
    let mark = if limit.is_some_and(|limit| most > limit) { " !" } else { "" };
    format!("{} / {}{mark}", samples.shown_median(), samples.shown_most())
}

fn shown_limit(limit: Option<Duration>) -> String {
    limit.map_or("-".to_owned(), |limit| format!("{limit:?}"))
}
