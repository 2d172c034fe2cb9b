//! `rbee-bench-fleet`: one real queen and one real nats-server against a fleet that is simulated on the bus.
//! `make bench-fleet` builds and runs it.

use std::{process, time::Duration};

use clap::Parser;
use rbee_bench::{
    flood, lag, machine, recovery,
    simulated::{SimulatedFleet, Size},
    table::{Samples, print},
    usage::{Usage, shares},
};
use rbee_tests::{
    fleet::Fleet,
    wait::{eventually, hold_fault},
};

/// Measures a queen with a large simulated fleet, and under floods of malformed messages.
#[derive(Debug, Parser)]
#[command(name = "rbee-bench-fleet", version, max_term_width = 100)]
struct Options {
    /// Number of simulated hives.
    #[arg(long, default_value_t = 500, value_name = "N")]
    hives: usize,
    /// Number of workers of each hive.
    #[arg(long, default_value_t = 20, value_name = "N")]
    workers: usize,
    /// Number of models. Each has the same number of workers.
    #[arg(long, default_value_t = 200, value_name = "N")]
    models: usize,
    /// Number of measured windows of 10 s.
    #[arg(long, default_value_t = 5, value_name = "N")]
    windows: usize,
    /// Number of kills of the queen.
    #[arg(long, default_value_t = 5, value_name = "N")]
    kills: usize,
    /// Number of messages of each flood.
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    flood: usize,
}

/// Duration of one window.
const WINDOW: Duration = Duration::from_secs(10);

/// Time from the start of the queen to the first window.
const WARM_UP: Duration = Duration::from_secs(10);

/// Time limit for the queen to learn the fleet. It takes seconds; a busy machine stretches that.
const LIMIT: Duration = Duration::from_secs(120);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let options = Options::parse();
    let size = Size { hives: options.hives, workers: options.workers, models: options.models };
    println!("{}", machine::facts());
    println!("{} simulated hives with {} workers each, of {} models", size.hives, size.workers, size.models);
    let mut fleet = Fleet::bare().await;
    let mut simulated = SimulatedFleet::start(fleet.server.url(), &fleet.bus, size).await;
    recovery::start(&mut fleet);
    eventually("the queen leads and knows the fleet", LIMIT, async || {
        fleet.status().await.is_some_and(|status| status.leads && status.hives as usize == size.hives)
    })
    .await;
    hold_fault(WARM_UP).await;
    load(&fleet, &mut simulated, options.windows).await;
    simulated.pause();
    if options.kills > 0 {
        restarts(&mut fleet, size, options.kills).await;
    }
    if options.flood > 0 {
        flood::measure(&mut fleet, options.flood).await;
    }
}

/// Measures the resource use of queen, server and generator, and the lag of the queen.
async fn load(fleet: &Fleet, simulated: &mut SimulatedFleet, windows: usize) {
    let queen = fleet.role_pid(recovery::QUEEN);
    let server = fleet.server.pid().expect("the server is a child of this process: set RBEE_TEST_NATS=child");
    let pids = [queen, server, process::id()];
    let mut used = Default::default();
    let lags = lag::measure(&fleet.bus, simulated, async { used = shares(pids, windows, WINDOW).await }).await;
    let [of_queen, of_server, of_generator] = used;
    print(
        "Processor time, in percent of one core, and memory",
        &[
            ("queen", Samples::shares(of_queen)),
            ("nats-server", Samples::shares(of_server)),
            ("simulated fleet", Samples::shares(of_generator)),
            ("memory of the queen", Samples::sizes([Usage::of(queen).resident])),
            ("peak memory of the queen", Samples::sizes([Usage::of(queen).peak])),
            ("memory of nats-server", Samples::sizes([Usage::of(server).resident])),
        ],
    );
    print(
        "Lag of the queen",
        &[
            ("ready event of a worker to fulfilled event", Samples::times(lags.fulfilled)),
            ("declaration of a model to declared event", Samples::times(lags.declared)),
            ("declaration of a model to placed event", Samples::times(lags.placed)),
            ("answer of rbee.api.model", Samples::times(lags.model)),
            ("answer of rbee.api.status", Samples::times(lags.status)),
        ],
    );
}

/// Measures the time that a restarted queen needs to know the fleet.
async fn restarts(fleet: &mut Fleet, size: Size, kills: usize) {
    let mut recoveries = Vec::new();
    for _ in 0..kills {
        // Messages in flight arrive meanwhile.
        hold_fault(Duration::from_secs(2)).await;
        recoveries.push(recovery::measure(fleet, size).await);
    }
    print(
        "The queen is killed (SIGKILL) and started again: times after the start of the process",
        &[
            ("it answers", Samples::times(recoveries.iter().map(|recovery| recovery.answers))),
            ("it knows the whole fleet", Samples::times(recoveries.iter().map(|recovery| recovery.knows))),
            ("it leads", Samples::times(recoveries.iter().map(|recovery| recovery.leads))),
        ],
    );
}
