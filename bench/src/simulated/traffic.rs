//! Traffic of a fleet: commands of queens, jobs, and crashes of workers.

use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt as _;
use rbee_nats::{Bus, Subject, Submission};
use rbee_schema::{HiveName, JobClass, JobId, JobInFlight, Tenant};
use tokio::{
    sync::{mpsc, watch},
    time::interval,
};

use super::{
    hive::{Hives, Input},
    size::{Size, hive_name, model_name},
};

/// Interval between two crashes in the fleet.
const CRASH: Duration = Duration::from_millis(200);

/// Interval between two jobs.
const JOB: Duration = Duration::from_millis(100);

/// Passes commands to their hives. The commands stay in the stream, which no measurement counts.
pub(super) async fn commands(bus: Bus, hives: Hives) {
    let mut commands = bus.subscribe(bus.namespace().all_commands()).await.expect("the server answers");
    while let Some(message) = commands.next().await {
        let Some(Subject::HiveCommand(hive)) = bus.parse(&message.subject) else { continue };
        if let (Some(hive), Ok(command)) = (hives.get(&hive), serde_json::from_slice(&message.payload)) {
            let _ = hive.send(Input::Command(command)).await;
        }
    }
}

/// Crashes workers, one hive after another.
pub(super) async fn restarts(hives: Hives, is_on: watch::Receiver<bool>) {
    let mut crash = interval(CRASH);
    for hive in hives.values().cycle() {
        crash.tick().await;
        if *is_on.borrow() {
            let _ = hive.send(Input::Crash).await;
        }
    }
}

/// Submits jobs, and assigns each to a worker of its model.
pub(super) async fn jobs(bus: Bus, hives: Hives, size: Size, is_on: watch::Receiver<bool>) {
    let mut notices = bus.subscribe(bus.namespace().all_queued()).await.expect("the server answers");
    // The first hive with a worker of each model.
    let at: BTreeMap<_, HiveName> = (0..size.models.min(size.all_workers()))
        .map(|model| (model_name(model), hive_name(model / size.workers)))
        .collect();
    let takers: BTreeMap<_, mpsc::Sender<Input>> =
        at.iter().filter_map(|(model, hive)| Some((model.clone(), hives.get(hive)?.clone()))).collect();
    let (mut submit, mut turn) = (interval(JOB), 0);
    loop {
        tokio::select! {
            _ = submit.tick() => if *is_on.borrow() {
                turn += 1;
                let submission = Submission {
                    model: model_name(turn % size.models),
                    class: JobClass::Interactive,
                    tenant: Tenant::default(),
                    job: JobId::generate(),
                    body: r#"{"messages":[{"role":"user","content":"Hi"}]}"#.into(),
                };
                // A refused job is left out.
                let _ = bus.submit(submission).await;
            },
            Some(notice) = notices.next() => {
                let Some((model, sequence, tenant, job)) = bus.queued_notice(&notice) else { continue };
                let ack = format!("$JS.ACK.rbee_jobs.{model}=interactive=default.1.{sequence}.{sequence}.1764072000000000000.0");
                if let Some(hive) = takers.get(&model) {
                    let _ = hive.send(Input::Job(model, JobInFlight { tenant, job, ack, waits: false, redelivery_ms: None }, sequence)).await;
                }
            }
        }
    }
}
