//! Simulates a fleet for many virtual hours, one seed after the other, and reports the first rule that is broken.
//!
//! A seed is simulated in the same way on every machine. `--seed` simulates one seed and prints its last steps.

use std::{
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use rbee_sim::{Outcome, Scenario, run};

/// Simulate a fleet with faults, in virtual time.
#[derive(Debug, Parser)]
struct Options {
    /// Number of seeds
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// First seed
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Simulate this seed alone and print its last steps
    #[arg(long)]
    seed: Option<u64>,
    /// Virtual minutes of each seed in which faults are injected
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// Number of queens, which start the workers. Without one, an operator does
    #[arg(long, default_value_t = 0)]
    queens: u32,
    /// Number of seeds that are simulated at a time
    #[arg(long, default_value_t = 2)]
    threads: u64,
}

/// Sums over all seeds.
#[derive(Debug, Default)]
struct Sums {
    virtual_time: Duration,
    steps: u64,
    jobs: u64,
    chunks: u64,
    ends: u64,
    faults: u64,
    failed: Vec<(u64, String)>,
}

impl Sums {
    fn add(&mut self, Outcome { seed, failure, counts, virtual_time, steps, .. }: Outcome) {
        self.virtual_time += virtual_time;
        self.steps += steps;
        self.jobs += counts.jobs;
        self.chunks += counts.chunks;
        self.ends += counts.ends;
        self.faults += counts.faults;
        self.failed.extend(failure.map(|failure| (seed, failure)));
    }

    fn join(mut self, other: Self) -> Self {
        self.virtual_time += other.virtual_time;
        self.steps += other.steps;
        self.jobs += other.jobs;
        self.chunks += other.chunks;
        self.ends += other.ends;
        self.faults += other.faults;
        self.failed.extend(other.failed);
        self
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let duration = Duration::from_secs(options.minutes * 60);
    if let Some(seed) = options.seed {
        return replay(&Scenario::draw(seed, duration).with_queens(options.queens));
    }
    let begun = Instant::now();
    let next = AtomicU64::new(options.from);
    let end = options.from + options.seeds;
    let work = || {
        let mut sums = Sums::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return sums;
            }
            sums.add(run(&Scenario::draw(seed, duration).with_queens(options.queens), false));
        }
    };
    let sums = thread::scope(|scope| {
        let workers: Vec<_> = (0..options.threads.max(1)).map(|_| scope.spawn(work)).collect();
        let joined = workers.into_iter().filter_map(|worker| worker.join().ok());
        joined.fold(Sums::default(), Sums::join)
    });
    report(&sums, &options, begun.elapsed())
}

fn report(sums: &Sums, options: &Options, took: Duration) -> ExitCode {
    let hours = sums.virtual_time.as_secs_f64() / 3600.0;
    let Sums { jobs, chunks, ends, faults, steps, failed, .. } = sums;
    println!(
        "{} seeds, {hours:.1} virtual hours in {took:.1?}: {:.2} hours per second, {:.0} steps per second",
        options.seeds,
        hours / took.as_secs_f64(),
        *steps as f64 / took.as_secs_f64(),
    );
    println!("{jobs} jobs, {chunks} chunks, {faults} faults, {ends} ends of workers");
    for (seed, failure) in failed {
        println!("seed {seed}: {failure}");
    }
    match failed.first() {
        Some((seed, _)) => {
            println!(
                "replay: make sim SIM=\"--seed {seed} --minutes {} --queens {}\"",
                options.minutes, options.queens
            );
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}

fn replay(scenario: &Scenario) -> ExitCode {
    let outcome = run(scenario, true);
    outcome.log.iter().for_each(|step| println!("{step}"));
    println!("{scenario:?}");
    println!("{:?}, {} steps, {:?}", outcome.counts, outcome.steps, outcome.virtual_time);
    match outcome.failure {
        Some(failure) => {
            println!("seed {}: {failure}", scenario.seed);
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}
