//! `rbee-bench`: the benchmarks of a fleet on this machine. `make bench` builds and runs it.
//!
//! Each measurement starts its own fleets (real processes and a real nats-server on this machine) and prints one table. Claims
//! are ratios or differences within one run, so that they hold on a busy machine too. Times are medians, printed with their
//! spread.

mod alone;
mod depth;
mod failover;
mod job;
mod overhead;
mod planning;
mod runs;
mod spawn;
mod throughput;

use clap::{Parser, ValueEnum};
use rbee_bench::machine;

use crate::runs::Effort;

/// Measures a fleet on this machine.
#[derive(Debug, Parser)]
#[command(name = "rbee-bench", version, max_term_width = 100)]
struct Options {
    /// Do a tenth of the runs, to check that everything works.
    #[arg(long)]
    quick: bool,
    /// Measurements to run [default: all].
    #[arg(value_enum)]
    measurements: Vec<Measurement>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Measurement {
    /// Overhead of the bus over the engine alone: time to the first token, and tokens per second.
    Overhead,
    /// Jobs per second, concurrently and one after another.
    Throughput,
    /// Time from the kill of a worker to the next token of its job.
    Failover,
    /// Time from the kill of the leading queen to the next placement by another one.
    Planning,
    /// Time from the declaration of a model, or from its first job, to an answer.
    Spawn,
    /// Operations and memory beside a queue of 100,000 jobs.
    Depth,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let Options { quick, measurements } = Options::parse();
    let effort = if quick { Effort::Quick } else { Effort::Full };
    let selected = if measurements.is_empty() { Measurement::value_variants().to_vec() } else { measurements };
    println!("{}", machine::facts());
    for measurement in selected {
        match measurement {
            Measurement::Overhead => overhead::measure(effort).await,
            Measurement::Throughput => throughput::measure(effort).await,
            Measurement::Failover => failover::measure(effort).await,
            Measurement::Planning => planning::measure(effort).await,
            Measurement::Spawn => spawn::measure(effort).await,
            Measurement::Depth => depth::measure(effort).await,
        }
    }
}
