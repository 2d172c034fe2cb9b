//! The simulated fleet: its hives, its traffic, and the subscriptions that real hives and workers would have.

use std::time::Duration;

use futures::{StreamExt as _, stream::SelectAll};
use rbee_nats::{Bus, Outbox, Registry, Subject, Subscriber};
use rbee_schema::WorkerName;
use rbee_tests::nats;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};

use super::{
    hive::{Hive, Hives},
    size::{Size, hive_name, model_name},
    traffic,
};

/// Connections of the generator. One would be a bottleneck; real hives and workers have one each.
const CONNECTIONS: usize = 16;

/// Inputs that may wait for one hive. They arrive one at a time, so few of them wait.
const INPUTS: usize = 64;

/// Simulated hives with their workers. They end when it is dropped.
pub struct SimulatedFleet {
    /// Workers that a queen ordered, each with the time at which its `ready` event was published.
    pub ready: mpsc::UnboundedReceiver<(WorkerName, Instant)>,
    traffic: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl SimulatedFleet {
    /// Writes the records of all hives and workers, declares their models, and starts heartbeats and traffic. The server of
    /// `bus` must have all streams and buckets.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn start(url: &str, bus: &Bus, size: Size) -> Self {
        let mut buses = Vec::new();
        for _ in 0..CONNECTIONS {
            buses.push(nats::connect(url, bus.namespace().to_string().as_str()).await.expect("the server answers"));
        }
        let (ready_sender, ready) = mpsc::unbounded_channel();
        let (mut tasks, mut hives, mut written) = (JoinSet::new(), Hives::new(), Vec::new());
        for number in 0..size.hives {
            let bus = &buses[number % CONNECTIONS];
            let outbox = Outbox::start(bus);
            let hive = Hive::new(number, size, bus.clone(), outbox.clone(), ready_sender.clone());
            hive.write();
            written.push(outbox);
            let (sender, inputs) = mpsc::channel(INPUTS);
            hives.insert(hive.name.clone(), sender);
            tasks.spawn(hive.run(inputs, Duration::from_secs(1) * number as u32 / size.hives as u32));
        }
        for outbox in written {
            outbox.drained(Duration::from_secs(60)).await;
        }
        for model in 0..size.models {
            Registry::models(bus)
                .put(model_name(model).as_str(), &size.declaration())
                .await
                .expect("the server answers");
        }
        for (number, bus) in buses.iter().enumerate() {
            let subscriptions = subscribe(bus, size, number).await;
            tasks.spawn(drop_all(subscriptions));
        }
        let (traffic, is_on) = watch::channel(true);
        tasks.spawn(traffic::commands(buses[0].clone(), hives.clone()));
        tasks.spawn(traffic::jobs(buses[1].clone(), hives.clone(), size, is_on.clone()));
        tasks.spawn(traffic::restarts(hives, is_on));
        Self { ready, traffic, _tasks: tasks }
    }

    /// Stops crashes and jobs, so that the fleet does not change, until [`SimulatedFleet::resume`].
    pub fn pause(&self) {
        self.traffic.send_replace(false);
    }

    /// Starts crashes and jobs again after [`SimulatedFleet::pause`].
    pub fn resume(&self) {
        self.traffic.send_replace(true);
    }
}

/// Subscriptions of the hives of one connection and of their workers.
async fn subscribe(bus: &Bus, size: Size, connection: usize) -> SelectAll<Subscriber> {
    let mut subscriptions = SelectAll::new();
    for hive in (connection..size.hives).step_by(CONNECTIONS).map(hive_name) {
        let workers = bus.namespace().worker_heartbeats_of(&hive);
        subscriptions.push(bus.client().subscribe(workers).await.expect("the connection is open"));
        for _ in 0..size.workers {
            let its_hive = bus.subject(&Subject::HiveHeartbeat(hive.clone()));
            subscriptions.push(bus.client().subscribe(its_hive).await.expect("the connection is open"));
        }
    }
    bus.round_trip().await.expect("the server answers");
    subscriptions
}

async fn drop_all(mut subscriptions: SelectAll<Subscriber>) {
    while subscriptions.next().await.is_some() {}
}
