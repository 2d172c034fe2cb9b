//! `rbee-bench-fleet`: one real queen and one real nats-server against a fleet that is simulated on the bus.
//! `make bench-fleet` builds what it needs and runs it.

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

/// Measures a queen with a large fleet, and under floods of what is no message.
#[derive(Debug, Parser)]
#[command(name = "rbee-bench-fleet", version, max_term_width = 100)]
struct Options {
    /// How many hives are simulated.
    #[arg(long, default_value_t = 500, value_name = "N")]
    hives: usize,
    /// How many workers each of them has.
    #[arg(long, default_value_t = 20, value_name = "N")]
    workers: usize,
    /// How many models they serve, with equally many workers each.
    #[arg(long, default_value_t = 200, value_name = "N")]
    models: usize,
    /// How many windows of ten seconds are measured.
    #[arg(long, default_value_t = 5, value_name = "N")]
    windows: usize,
    /// How often the queen is killed.
    #[arg(long, default_value_t = 5, value_name = "N")]
    kills: usize,
    /// How many messages each flood has.
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    flood: usize,
}

/// How long one window is.
const WINDOW: Duration = Duration::from_secs(10);

/// From the start of the queen to the first window.
const WARM_UP: Duration = Duration::from_secs(10);

/// A fleet of this size is written and read within seconds; a busy machine stretches that.
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
    simulated.hold();
    if options.kills > 0 {
        restarts(&mut fleet, size, options.kills).await;
    }
    if options.flood > 0 {
        flood::measure(&mut fleet, options.flood).await;
    }
}

/// What queen, server and generator use, and how late the queen is.
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
            ("the queen", Samples::shares(of_queen)),
            ("nats-server", Samples::shares(of_server)),
            ("the simulated fleet", Samples::shares(of_generator)),
            ("the queen's memory", Samples::sizes([Usage::of(queen).resident])),
            ("the most that it was", Samples::sizes([Usage::of(queen).peak])),
            ("nats-server's memory", Samples::sizes([Usage::of(server).resident])),
        ],
    );
    print(
        "How late the queen is",
        &[
            ("a worker tells that it is ready: until she says that she heard", Samples::times(lags.fulfilled)),
            ("a model is declared: until she says that she has it", Samples::times(lags.declared)),
            ("until she says where its worker goes", Samples::times(lags.placed)),
            ("rbee.api.model is answered", Samples::times(lags.model)),
            ("rbee.api.status is answered", Samples::times(lags.status)),
        ],
    );
}

/// How long a queen takes to know everything again.
async fn restarts(fleet: &mut Fleet, size: Size, kills: usize) {
    let mut recoveries = Vec::new();
    for _ in 0..kills {
        // What was on its way is known by everybody.
        hold_fault(Duration::from_secs(2)).await;
        recoveries.push(recovery::measure(fleet, size).await);
    }
    print(
        "The queen is killed (SIGKILL) and started again: from the start of the process",
        &[
            ("until she answers", Samples::times(recoveries.iter().map(|recovery| recovery.answers))),
            ("until she knows everything", Samples::times(recoveries.iter().map(|recovery| recovery.knows))),
            ("until she leads", Samples::times(recoveries.iter().map(|recovery| recovery.leads))),
        ],
    );
}
