//! Hives and workers that exist on the bus alone: their records, heartbeats, events and answers to commands come at the rate
//! at which real ones send them, and no process is behind them.
//!
//! What real ones ask of the server beside that is asked too: every worker listens for its hive, and every hive for its
//! workers. Pulls for jobs and tokens are not simulated: they pass the queen by.

mod hive;
mod life;

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt as _, stream::SelectAll};
use rbee_nats::{Bus, Outbox, Registry, Subject, Subscriber};
use rbee_schema::{HiveName, ModelName, ModelReference, ModelSpec, Replicas, WorkerName};
use rbee_tests::nats;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};

use self::hive::{Hive, Word};

/// The generator has several connections, so that it is not one pipe. Real hives and workers have one each.
const CONNECTIONS: usize = 16;

/// Words that may wait for one hive: commands come one at a time, and so does everything else.
const WORDS: usize = 64;

/// How large a fleet is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// How many hives.
    pub hives: usize,
    /// How many workers each of them runs.
    pub workers: usize,
    /// How many models are served, by equally many workers each.
    pub models: usize,
}

impl Size {
    /// Workers of all hives.
    pub fn all_workers(self) -> usize {
        self.hives * self.workers
    }
}

/// Simulated hives with their workers. They end when this is dropped.
pub struct SimulatedFleet {
    /// When workers that were ordered told that they take jobs: the moment at which that was published.
    pub ready: mpsc::UnboundedReceiver<(WorkerName, Instant)>,
    lives: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

/// Every hive's ear.
type Hives = BTreeMap<HiveName, mpsc::Sender<Word>>;

impl SimulatedFleet {
    /// Writes the records of all hives and workers, declares their models, and goes on as a fleet does. `bus` is one to a
    /// server that is prepared.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn start(url: &str, bus: &Bus, size: Size) -> Self {
        let mut buses = Vec::new();
        for _ in 0..CONNECTIONS {
            buses.push(nats::connect(url, bus.namespace().to_string().as_str()).await.expect("the server is there"));
        }
        let (tell_ready, ready) = mpsc::unbounded_channel();
        let (mut tasks, mut hives, mut written) = (JoinSet::new(), Hives::new(), Vec::new());
        for number in 0..size.hives {
            let bus = &buses[number % CONNECTIONS];
            let outbox = Outbox::start(bus);
            let hive = Hive::new(number, size, bus.clone(), outbox.clone(), tell_ready.clone());
            hive.write();
            written.push(outbox);
            let (sender, words) = mpsc::channel(WORDS);
            hives.insert(hive.name.clone(), sender);
            tasks.spawn(hive.live(words, Duration::from_secs(1) * number as u32 / size.hives as u32));
        }
        for outbox in written {
            outbox.drained(Duration::from_secs(60)).await;
        }
        for model in 0..size.models {
            Registry::models(bus)
                .put(model_name(model).as_str(), &declaration(size))
                .await
                .expect("the server answers");
        }
        for (number, bus) in buses.iter().enumerate() {
            let ears = ears(bus, size, number).await;
            tasks.spawn(drop_all(ears));
        }
        let (lives, is_alive) = watch::channel(true);
        tasks.spawn(life::commands(buses[0].clone(), hives.clone()));
        tasks.spawn(life::jobs(buses[1].clone(), hives.clone(), size, is_alive.clone()));
        tasks.spawn(life::restarts(hives, is_alive));
        Self { ready, lives, _tasks: tasks }
    }

    /// Lets no worker restart and no job come until [`SimulatedFleet::live_on`]: everything can be counted.
    pub fn hold(&self) {
        self.lives.send_replace(false);
    }

    /// The opposite of [`SimulatedFleet::hold`].
    pub fn live_on(&self) {
        self.lives.send_replace(true);
    }
}

fn hive_name(number: usize) -> HiveName {
    HiveName::from_lossy(&format!("hive-{number:04}"))
}

fn model_name(number: usize) -> ModelName {
    ModelName::from_lossy(&format!("model-{number:04}"))
}

/// How a model of the fleet is declared: it has as many workers as it is to have.
fn declaration(size: Size) -> ModelSpec {
    let workers = u32::try_from(size.all_workers() / size.models).unwrap_or(u32::MAX);
    let replicas = Replicas { min: workers, max: workers };
    ModelSpec { replicas, ..ModelSpec::new(ModelReference::Mock("tokens=100,interval=20ms".to_owned())) }
}

/// What the hives of one connection and their workers listen to.
async fn ears(bus: &Bus, size: Size, connection: usize) -> SelectAll<Subscriber> {
    let mut ears = SelectAll::new();
    for hive in (connection..size.hives).step_by(CONNECTIONS).map(hive_name) {
        let workers = bus.namespace().worker_heartbeats_of(&hive);
        ears.push(bus.client().subscribe(workers).await.expect("the connection stands"));
        for _ in 0..size.workers {
            let its_hive = bus.subject(&Subject::HiveHeartbeat(hive.clone()));
            ears.push(bus.client().subscribe(its_hive).await.expect("the connection stands"));
        }
    }
    bus.round_trip().await.expect("the server answers");
    ears
}

async fn drop_all(mut ears: SelectAll<Subscriber>) {
    while ears.next().await.is_some() {}
}
