//! `rbee-bench`: where the figures of the README come from. `make bench` builds what it needs and runs it.
//!
//! Each measurement starts fleets of its own (real processes, a real nats-server, all on this machine) and prints one
//! table. What is claimed is a ratio or a difference within one run, so that it holds on a busy machine too; times are
//! medians, and the spread stands beside them.

mod alone;
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
    /// A tenth of the runs: to see that everything works, not for figures.
    #[arg(long)]
    quick: bool,
    /// What is measured; everything if nothing is named.
    #[arg(value_enum)]
    measurements: Vec<Measurement>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Measurement {
    /// What the bus adds to the engine: time to the first token, and tokens per second.
    Overhead,
    /// Jobs per second, many at a time and one after another.
    Throughput,
    /// From the death of a worker to the next token of its job.
    Failover,
    /// From the death of the leading queen to the next decision of another one.
    Planning,
    /// From the declaration of a model, or the first job for it, to a worker that answers.
    Spawn,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let Options { quick, measurements } = Options::parse();
    let effort = if quick { Effort::Quick } else { Effort::Full };
    let asked = if measurements.is_empty() { Measurement::value_variants().to_vec() } else { measurements };
    println!("{}", machine::facts());
    for measurement in asked {
        match measurement {
            Measurement::Overhead => overhead::measure(effort).await,
            Measurement::Throughput => throughput::measure(effort).await,
            Measurement::Failover => failover::measure(effort).await,
            Measurement::Planning => planning::measure(effort).await,
            Measurement::Spawn => spawn::measure(effort).await,
        }
    }
}
