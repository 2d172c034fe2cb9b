//! What happens in a fleet: queens command, jobs come, and workers crash now and then.

use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt as _;
use rbee_nats::{Bus, Subject, Submission};
use rbee_schema::{HiveName, JobClass, JobId, JobInFlight, Tenant};
use tokio::{
    sync::{mpsc, watch},
    time::interval,
};

use super::{Hives, Size, hive::Word, hive_name, model_name};

/// A worker of the fleet crashes this often.
const CRASH: Duration = Duration::from_millis(200);

/// A job comes this often.
const JOB: Duration = Duration::from_millis(100);

/// Hands commands to the hives that they are for. They stay in the stream, as if their hives died: nobody counts them.
pub(super) async fn commands(bus: Bus, hives: Hives) {
    let mut commands = bus.subscribe(bus.namespace().all_commands()).await.expect("the server answers");
    while let Some(message) = commands.next().await {
        let Some(Subject::HiveCommand(hive)) = bus.parse(&message.subject) else { continue };
        if let (Some(hive), Ok(command)) = (hives.get(&hive), serde_json::from_slice(&message.payload)) {
            let _ = hive.send(Word::Command(command)).await;
        }
    }
}

/// Lets workers crash, each time of the next hive.
pub(super) async fn restarts(hives: Hives, is_alive: watch::Receiver<bool>) {
    let mut crash = interval(CRASH);
    for hive in hives.values().cycle() {
        crash.tick().await;
        if *is_alive.borrow() {
            let _ = hive.send(Word::Crash).await;
        }
    }
}

/// Submits jobs, and has each taken by a worker of its model.
pub(super) async fn jobs(bus: Bus, hives: Hives, size: Size, is_alive: watch::Receiver<bool>) {
    let mut notices = bus.subscribe(bus.namespace().all_queued()).await.expect("the server answers");
    // Where a model has workers: the first hive that has one of it.
    let at: BTreeMap<_, HiveName> = (0..size.models.min(size.all_workers()))
        .map(|model| (model_name(model), hive_name(model / size.workers)))
        .collect();
    let takers: BTreeMap<_, mpsc::Sender<Word>> =
        at.iter().filter_map(|(model, hive)| Some((model.clone(), hives.get(hive)?.clone()))).collect();
    let (mut submit, mut turn) = (interval(JOB), 0);
    loop {
        tokio::select! {
            _ = submit.tick() => if *is_alive.borrow() {
                turn += 1;
                let submission = Submission {
                    model: model_name(turn % size.models),
                    class: JobClass::Interactive,
                    tenant: Tenant::default(),
                    job: JobId::generate(),
                    body: r#"{"messages":[{"role":"user","content":"Hi"}]}"#.into(),
                };
                // A refusal is a job less.
                let _ = bus.submit(submission).await;
            },
            Some(notice) = notices.next() => {
                let Some((model, sequence, tenant, job)) = bus.queued_notice(&notice) else { continue };
                let ack = format!("$JS.ACK.rbee_jobs.{model}-interactive.1.{sequence}.{sequence}.1764072000000000000.0");
                if let Some(hive) = takers.get(&model) {
                    let _ = hive.send(Word::Job(model, JobInFlight { tenant, job, ack }, sequence)).await;
                }
            }
        }
    }
}
