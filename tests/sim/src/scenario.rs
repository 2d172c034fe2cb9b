//! A scenario: the fleet, its jobs and its faults, drawn from a seed.

use std::time::Duration;

use fastrand::Rng;

use crate::{fault::Kind, node::Flaws};

/// Kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Fewer jobs than the slots can run.
    Light,
    /// More jobs than the slots can run for a while.
    Heavy,
    /// All jobs at once, and none later. Each tenant has longer jobs than the one before.
    Backlog,
}

/// One simulation.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// Time in which jobs are submitted and faults are injected.
    pub duration: Duration,
    /// Time after the last fault in which every accepted job must end.
    pub patience: Duration,
    /// Number of hives.
    pub hives: u32,
    /// Number of hives on each machine, which share its ports.
    pub hives_per_machine: u32,
    /// Number of workers of each hive, if no queen places them.
    pub workers: u32,
    /// Number of slots of each worker.
    pub slots: u32,
    /// Number of queens. Without one, an operator starts the workers of each hive, and starts failed ones again.
    pub queens: u32,
    /// Number of tenants. Each has a client.
    pub tenants: u32,
    /// Load.
    pub load: Load,
    /// Mean time between two faults. `None` for a calm fleet.
    pub fault_interval: Option<Duration>,
    /// Kinds of faults.
    pub faults: Vec<Kind>,
    /// One of so many jobs ends its workers. 0 for none.
    pub poison: u32,
    /// Workers append the first chunk of a first attempt without reading the output before.
    pub appends_first: bool,
    /// Deliberate mistakes.
    pub flaws: Flaws,
}

impl Scenario {
    /// The scenario of a seed with this number of queens, which start the workers.
    #[must_use]
    pub fn with_queens(self, queens: u32) -> Self {
        Self { queens, ..self }
    }

    /// A calm fleet with a backlog of all tenants: for the rules of fairness.
    pub fn backlog(seed: u64) -> Self {
        let drawn = Self::draw(seed, Duration::from_secs(60));
        let (tenants, load) = (drawn.tenants.max(2), Load::Backlog);
        Self { tenants, load, fault_interval: None, poison: 0, ..drawn }
    }

    /// A scenario that follows from a seed.
    pub fn draw(seed: u64, duration: Duration) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0x5eed_5eed_5eed_5eed);
        let all = Kind::ALL;
        let faults: Vec<Kind> = all.into_iter().filter(|_| rng.u32(0..3) > 0).collect();
        let is_calm = rng.u32(0..12) == 0;
        Self {
            seed,
            duration,
            patience: Duration::from_secs(3 * 60 * 60),
            hives: rng.u32(1..=3),
            hives_per_machine: rng.u32(1..=2),
            workers: rng.u32(1..=3),
            slots: rng.u32(1..=4),
            queens: 0,
            tenants: rng.u32(1..=4),
            load: if rng.bool() { Load::Light } else { Load::Heavy },
            fault_interval: (!is_calm).then(|| Duration::from_secs(rng.u64(5..120))),
            faults: if faults.is_empty() { all.to_vec() } else { faults },
            poison: [0, 0, 20, 60][rng.usize(0..4)],
            appends_first: rng.bool(),
            flaws: Flaws::default(),
        }
    }
}
