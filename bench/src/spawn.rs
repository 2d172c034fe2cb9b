//! Time from a declaration or a first job to a worker that answers.

use std::time::Duration;

use futures::StreamExt as _;
use rbee_bench::table::{Samples, print};
use rbee_nats::Subject;
use rbee_schema::{ModelReference, WorkerEvent, api::Models};
use rbee_tests::{
    fleet::Fleet,
    wait::{PATIENCE, eventually, soon},
};
use tokio::time::Instant;

use crate::{
    job::{publish, request},
    runs::{Effort, each, real_model, spec},
};

/// A run needs one worker, and a fleet has ten ports.
const RUNS_PER_FLEET: usize = 10;

/// Processes of a real model need memory, so few of them run at a time.
const LOADS_PER_FLEET: usize = 2;

pub(crate) async fn measure(effort: Effort) {
    let mock = || ModelReference::Mock(String::new());
    let declared = each(effort.runs(30), RUNS_PER_FLEET, async |fleet, run| declare(fleet, run, mock()).await).await;
    print("Declaration of a model with at least one worker, whose engine has nothing to load", &startup(&declared));

    let woken = each(effort.runs(200), RUNS_PER_FLEET, async |fleet, run| wake(fleet, run).await).await;
    print(
        "The first job of a model that has no worker",
        &[
            ("job to first token", Samples::times(woken.iter().map(|run| run.first_token))),
            ("worker ready to job started", Samples::times(woken.iter().map(|run| run.taken))),
        ],
    );

    let (file, name) = real_model();
    let loaded =
        each(effort.runs(6), LOADS_PER_FLEET, async |fleet, run| declare(fleet, run, file.clone()).await).await;
    let title = format!("Declaration of {name}, whose file is in the page cache");
    print(&title, &startup(&loaded));
}

/// Times after the declaration.
struct Startup {
    spawned: Duration,
    loading: Duration,
    ready: Duration,
}

fn startup(runs: &[Startup]) -> [(&'static str, Samples); 3] {
    [
        ("process started", Samples::times(runs.iter().map(|run| run.spawned))),
        ("first event of the process", Samples::times(runs.iter().map(|run| run.loading))),
        ("ready", Samples::times(runs.iter().map(|run| run.ready))),
    ]
}

async fn declare(fleet: &Fleet, run: usize, reference: ModelReference) -> Startup {
    let bus = &fleet.bus;
    let hive = "one".parse().expect("the hive's name is valid");
    let mut events = bus.subscribe(bus.namespace().worker_events_of(&hive)).await.expect("the server answers");
    let model = format!("declared-{run}");
    let declared = Instant::now();
    fleet.serve(&model, spec(reference, 1, 1, 1)).await;
    let (mut spawned, mut loading, mut ready) = (None, None, None);
    loop {
        let message = soon("event of the worker", events.next()).await.expect("the connection is open");
        let now = declared.elapsed();
        let Some(Subject::WorkerEvent(_, worker, _)) = bus.parse(&message.subject) else { continue };
        if !worker.as_str().starts_with(&format!("{model}-")) {
            continue;
        }
        match serde_json::from_slice(&message.payload).expect("an event can be read") {
            WorkerEvent::Spawned { .. } => spawned = Some(now),
            WorkerEvent::Loading { .. } => loading = loading.or(Some(now)),
            WorkerEvent::Ready { .. } => ready = Some(now),
            other => panic!("the worker does not start: {}", other.name()),
        }
        // The hive publishes the start and the worker the rest, on two connections, in any order.
        if let (Some(spawned), Some(loading), Some(ready)) = (spawned, loading, ready) {
            return Startup { spawned, loading, ready };
        }
    }
}

/// Times of a model that its first job started.
struct Woken {
    /// Time from the publication of the job.
    first_token: Duration,
    /// Time from the `ready` event of the worker.
    taken: Duration,
}

async fn wake(fleet: &Fleet, run: usize) -> Woken {
    let bus = &fleet.bus;
    let hive = "one".parse().expect("the hive's name is valid");
    let mut events = bus.subscribe(bus.namespace().worker_events_of(&hive)).await.expect("the server answers");
    let model = format!("woken-{run}");
    fleet.serve(&model, spec(ModelReference::Mock(String::new()), 0, 1, 1)).await;
    eventually("the queen knows the model", PATIENCE, async || {
        let known: Result<Models, _> = fleet.bus.request("models", &()).await;
        known.is_ok_and(|reply| reply.models.iter().any(|known| known.name.as_str() == model))
    })
    .await;
    let is_ready = async {
        loop {
            let message = soon("event of the worker", events.next()).await.expect("the connection is open");
            let event = serde_json::from_slice(&message.payload).expect("an event can be read");
            if matches!(event, WorkerEvent::Ready { .. }) {
                return Instant::now();
            }
        }
    };
    let mut job = publish(bus, &model, &request("Hi", 1)).await;
    let is_taken = async {
        job.taken().await;
        Instant::now()
    };
    // The two messages come on two subjects, in any order.
    let (ready, taken) = tokio::join!(is_ready, is_taken);
    job.reached(0).await;
    Woken { first_token: job.at.elapsed(), taken: taken.saturating_duration_since(ready) }
}
