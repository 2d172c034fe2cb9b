//! A worker does not exit on request.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use futures::FutureExt as _;
use rbee_nats::Registry;
use rbee_schema::{HiveCommand, StopMode, WorkerEvent};

use super::setup::{millis, timers};
use crate::{
    chaos::{events::EventReader, fault::Fault, measured::Measured, needs::Needs},
    fleet::{Fleet, HiveSetup, program},
    wait::{PATIENCE, eventually},
};

/// Hive `one` with a worker program that ignores SIGTERM for models whose name begins with `stubborn`, and keeps running
/// when the worker inside it has exited.
fn with_stubborn_workers(fleet: &Fleet, more: &str) -> HiveSetup {
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in\n*\"--model stubborn\"*) trap '' TERM; '{worker}' \"$@\" & wait; while :; do sleep 1; \
         done ;;\n*) exec '{worker}' \"$@\" ;;\nesac\n",
        worker = program("rbee-worker").display()
    );
    let path: PathBuf = fleet.folder().join("worker.sh");
    fs::write(&path, script).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    HiveSetup { worker_program: Some(path), ..fleet.hive_one(&timers(more)) }
}

pub(in crate::chaos) const IGNORES_SIGTERM: Fault = Fault {
    name: "worker-ignores-sigterm",
    injected: "a worker that ignores SIGTERM is terminated",
    outcome: "the worker and all its children are killed after `term` (2 s), and it is removed",
    detected_within: millis(2_100),
    recovered_within: millis(2_200),
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| ignores_sigterm(fleet).boxed_local(),
};

async fn ignores_sigterm(fleet: &mut Fleet) -> Measured {
    fleet.start_hive(&with_stubborn_workers(fleet, "")).await;
    fleet.mocks_ready(&["a"], "stubborn", "").await;
    let mut events = EventReader::start(&fleet.bus).await;
    let injected = SystemTime::now();
    let worker = "a".parse().expect("a name");
    fleet.command_hive_one(&HiveCommand::Stop { worker, why: "enough".to_owned(), mode: StopMode::Terminate }).await;
    let is_killed = |event: &WorkerEvent| match event {
        WorkerEvent::Stopping { why } => why.contains("of SIGTERM").then_some(()),
        _ => None,
    };
    let (_, detected) = events.worker_event("a", "stopping", is_killed).await;
    let recovered = events.worker_event_named("a", "removed").await;
    eventually("no process of the worker is left", PATIENCE, async || {
        fleet.running().iter().all(|process| process.run.is_none())
    })
    .await;
    Measured::between(injected, detected, recovered)
}

pub(in crate::chaos) const FIFTY_OF_WHICH_FIVE_IGNORE_SIGTERM: Fault = Fault {
    name: "fifty-stopped",
    injected: "SIGTERM to a hive of fifty workers of which five ignore SIGTERM",
    outcome: "the hive exits within `shutdown` (10 s) and leaves no process, no lease and no record",
    detected_within: None,
    recovered_within: Some(Duration::from_secs(10)),
    healed_within: None,
    ports: 60,
    needs: Needs::Nothing,
    inject: |fleet| fifty(fleet).boxed_local(),
};

async fn fifty(fleet: &mut Fleet) -> Measured {
    fleet.start_hive(&with_stubborn_workers(fleet, "first_word=60s,load_base=60s,load_stall=60s")).await;
    let obedient: Vec<String> = (0..45).map(|number| format!("obedient-{number}")).collect();
    let stubborn: Vec<String> = (0..5).map(|number| format!("stubborn-{number}")).collect();
    for worker in &obedient {
        fleet.spawn_mock(worker, "obedient", "").await;
    }
    for worker in &stubborn {
        fleet.spawn_mock(worker, "stubborn", "").await;
    }
    for worker in obedient.iter().chain(&stubborn) {
        fleet.ready_in(worker, 1).await;
    }
    let injected = SystemTime::now();
    assert!(fleet.stop_role("one").await, "the hive exits with code 0");
    let recovered = SystemTime::now();
    assert_eq!(fleet.running(), [], "no process");
    assert_eq!(Registry::ports(&fleet.bus).all().await.expect("the server answers"), [], "no lease");
    assert_eq!(Registry::workers(&fleet.bus).all().await.expect("the server answers"), [], "no record");
    assert_eq!(Registry::hives(&fleet.bus).all().await.expect("the server answers"), [], "no hive");
    Measured::recovery(injected, recovered)
}
