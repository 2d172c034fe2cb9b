//! How late a queen is: from the publication of something to what she publishes because of it, and to her answers.

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

/// Between two rounds, so that what is measured is not the load.
const PAUSE: Duration = Duration::from_millis(100);

/// The answers that are asked for in each round: those that cost little. Of the others it is one.
const QUESTIONS: usize = 5;

/// What was measured.
#[derive(Debug, Default)]
pub struct Lags {
    /// A model is declared, to her word that she has it.
    pub declared: Vec<Duration>,
    /// A model is declared that needs a worker, to her word where one is placed.
    pub placed: Vec<Duration>,
    /// A worker that she ordered tells that it is ready, to her word that she has heard it.
    pub fulfilled: Vec<Duration>,
    /// `rbee.api.model` is asked, to its answer.
    pub model: Vec<Duration>,
    /// `rbee.api.status` is asked, to its answer. The queue is looked at for it.
    pub status: Vec<Duration>,
}

/// What queens say.
struct Ears {
    models: Subscriber,
    queens: Subscriber,
}

/// Measures again and again until `end` comes.
///
/// # Panics
/// When the queen does not answer.
pub async fn measure(bus: &Bus, fleet: &mut SimulatedFleet, end: impl Future<Output = ()>) -> Lags {
    let ear = async |what: &str| bus.subscribe(format!("{}.evt.{what}", bus.namespace())).await;
    let mut ears = Ears {
        models: ear("model.*.declared").await.expect("the server answers"),
        queens: ear("queen.>").await.expect("the server answers"),
    };
    let (mut lags, mut end) = (Lags::default(), pin!(end));
    for round in 0.. {
        tokio::select! {
            biased;
            () = &mut end => break,
            () = sleep(PAUSE) => {}
        }
        // To its end, so that no model is left behind.
        measure_once(bus, fleet, &mut ears, round, &mut lags).await;
    }
    lags
}

async fn measure_once(bus: &Bus, fleet: &mut SimulatedFleet, ears: &mut Ears, round: usize, lags: &mut Lags) {
    let model = ModelName::from_lossy(&format!("measured-{round}"));
    let spec = ModelSpec::new(ModelReference::Mock(String::new()));
    let spec = ModelSpec { replicas: Replicas { min: 1, max: 1 }, ..spec };
    let (begun, models) = (Instant::now(), Registry::models(bus));
    let (stored, declared, (worker, placed)) = tokio::join!(
        models.put(model.as_str(), &spec),
        declared(&mut ears.models, &model),
        placed(&mut ears.queens, &model),
    );
    stored.expect("the server answers");
    lags.declared.push(declared - begun);
    lags.placed.push(placed - begun);
    let heard = fulfilled(&mut ears.queens, &worker).await;
    lags.fulfilled.push(heard - ready(fleet, &worker).await);
    for _ in 0..QUESTIONS {
        let asked = Instant::now();
        let _: Model = bus.request("model", &ModelRequest { model: model.clone() }).await.expect("the queen answers");
        lags.model.push(asked.elapsed());
    }
    let asked = Instant::now();
    let _: Status = bus.request("status", &()).await.expect("the queen answers");
    lags.status.push(asked.elapsed());
    models.remove(model.as_str()).await.expect("the server answers");
}

async fn declared(models: &mut Subscriber, model: &ModelName) -> Instant {
    let ours = format!(".{model}.");
    soon("word that the model is declared", async {
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
    told(queens, placed).await
}

async fn fulfilled(queens: &mut Subscriber, ours: &WorkerName) -> Instant {
    let fulfilled = |event: QueenEvent| match event {
        QueenEvent::Fulfilled { worker, .. } => (worker == *ours).then_some(()),
        _ => None,
    };
    told(queens, fulfilled).await.1
}

/// Waits for an event of a queen.
async fn told<T>(queens: &mut Subscriber, mut pick: impl FnMut(QueenEvent) -> Option<T>) -> (T, Instant) {
    soon("word of the queen", async {
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

/// When the simulated hive published that its worker is ready.
async fn ready(fleet: &mut SimulatedFleet, ours: &WorkerName) -> Instant {
    soon("word of the worker", async {
        while let Some((worker, at)) = fleet.ready.recv().await {
            if worker == *ours {
                return at;
            }
        }
        panic!("the simulated fleet has ended")
    })
    .await
}
