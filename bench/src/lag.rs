//! Lag of a queen: the time from a message to the event that the queen publishes because of it, and the time of its answers.

use std::{pin::pin, time::Duration};

use futures::StreamExt as _;
use rbee_nats::{Bus, Registry, Subscriber};
use rbee_schema::{
    ModelName, ModelReference, ModelSpec, QueenEvent, Replicas, WorkerName,
    api::{Model, ModelRequest, Status},
};
use rbee_tests::wait::soon;
use tokio::time::{Instant, sleep};

use crate::simulated::SimulatedFleet;

/// Pause between two rounds, so that the measurement does not become the load.
const PAUSE: Duration = Duration::from_millis(100);

/// Requests per round of a cheap operation. An expensive one is requested once.
const QUESTIONS: usize = 5;

/// Measured times.
#[derive(Debug, Default)]
pub struct Lags {
    /// From the declaration of a model to its `declared` event.
    pub declared: Vec<Duration>,
    /// From the declaration of a model that needs a worker to its `placed` event.
    pub placed: Vec<Duration>,
    /// From the `ready` event of an ordered worker to the `fulfilled` event of the queen.
    pub fulfilled: Vec<Duration>,
    /// From a request to `rbee.api.model` to its answer.
    pub model: Vec<Duration>,
    /// From a request to `rbee.api.status` to its answer, which counts the queue.
    pub status: Vec<Duration>,
}

/// Subscriptions to the events of the queen.
struct Subscriptions {
    models: Subscriber,
    queens: Subscriber,
}

/// Measures in rounds until `end` is ready.
///
/// # Panics
/// When the queen does not answer.
pub async fn measure(bus: &Bus, fleet: &mut SimulatedFleet, end: impl Future<Output = ()>) -> Lags {
    let subscribe = async |events: &str| bus.subscribe(format!("{}.evt.{events}", bus.namespace())).await;
    let mut subscriptions = Subscriptions {
        models: subscribe("model.*.declared").await.expect("the server answers"),
        queens: subscribe("queen.>").await.expect("the server answers"),
    };
    let (mut lags, mut end) = (Lags::default(), pin!(end));
    for round in 0.. {
        tokio::select! {
            biased;
            () = &mut end => break,
            () = sleep(PAUSE) => {}
        }
        // A round always runs to its end, so that no model is left behind.
        measure_once(bus, fleet, &mut subscriptions, round, &mut lags).await;
    }
    lags
}

async fn measure_once(
    bus: &Bus,
    fleet: &mut SimulatedFleet,
    subscriptions: &mut Subscriptions,
    round: usize,
    lags: &mut Lags,
) {
    let model = ModelName::from_lossy(&format!("measured-{round}"));
    let spec = ModelSpec::new(ModelReference::Mock(String::new()));
    let spec = ModelSpec { replicas: Replicas { min: 1, max: 1 }, ..spec };
    let (begun, models) = (Instant::now(), Registry::models(bus));
    let (stored, declared, (worker, placed)) = tokio::join!(
        models.put(model.as_str(), &spec),
        declared(&mut subscriptions.models, &model),
        placed(&mut subscriptions.queens, &model),
    );
    stored.expect("the server answers");
    lags.declared.push(declared - begun);
    lags.placed.push(placed - begun);
    let received = fulfilled(&mut subscriptions.queens, &worker).await;
    lags.fulfilled.push(received - ready(fleet, &worker).await);
    for _ in 0..QUESTIONS {
        let requested = Instant::now();
        let _: Model = bus.request("model", &ModelRequest { model: model.clone() }).await.expect("the queen answers");
        lags.model.push(requested.elapsed());
    }
    let requested = Instant::now();
    let _: Status = bus.request("status", &()).await.expect("the queen answers");
    lags.status.push(requested.elapsed());
    models.remove(model.as_str()).await.expect("the server answers");
}

async fn declared(models: &mut Subscriber, model: &ModelName) -> Instant {
    let ours = format!(".{model}.");
    soon("declared event of the model", async {
        while let Some(message) = models.next().await {
            if message.subject.contains(&ours) {
                return Instant::now();
            }
        }
        panic!("the connection is closed")
    })
    .await
}

async fn placed(queens: &mut Subscriber, ours: &ModelName) -> (WorkerName, Instant) {
    let placed = |event: QueenEvent| match event {
        QueenEvent::Placed { model, worker, .. } => (model == *ours).then_some(worker),
        _ => None,
    };
    event_of_queen(queens, placed).await
}

async fn fulfilled(queens: &mut Subscriber, ours: &WorkerName) -> Instant {
    let fulfilled = |event: QueenEvent| match event {
        QueenEvent::Fulfilled { worker, .. } => (worker == *ours).then_some(()),
        _ => None,
    };
    event_of_queen(queens, fulfilled).await.1
}

/// Waits for an event of a queen.
async fn event_of_queen<T>(queens: &mut Subscriber, mut pick: impl FnMut(QueenEvent) -> Option<T>) -> (T, Instant) {
    soon("event of the queen", async {
        while let Some(message) = queens.next().await {
            let event = serde_json::from_slice(&message.payload).ok();
            if let Some(picked) = event.and_then(&mut pick) {
                return (picked, Instant::now());
            }
        }
        panic!("the connection is closed")
    })
    .await
}

/// Time at which the simulated hive published that the worker is ready.
async fn ready(fleet: &mut SimulatedFleet, ours: &WorkerName) -> Instant {
    soon("ready event of the worker", async {
        while let Some((worker, at)) = fleet.ready.recv().await {
            if worker == *ours {
                return at;
            }
        }
        panic!("the simulated fleet has ended")
    })
    .await
}
