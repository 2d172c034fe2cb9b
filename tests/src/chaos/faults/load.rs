//! A model loads slowly, not at all, or is no valid model file.

use std::{fs, io::Read as _, time::SystemTime};

use futures::FutureExt as _;
use rbee_schema::{ExitClass, FailureCode, ModelReference, ModelSpec, WorkerEvent};

use super::setup::{millis, terminate_worker, timers};
use crate::{
    chaos::{events::EventReader, fault::Fault, measured::Measured, needs::Needs},
    fleet::Fleet,
    tools,
};

pub(in crate::chaos) const SLOW: Fault = Fault {
    name: "load-slow",
    injected: "a load that makes progress and takes three times its stall limit (1 s)",
    outcome: "the worker is ready in its first run",
    detected_within: None,
    recovered_within: None,
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| slow(fleet).boxed_local(),
};

async fn slow(fleet: &mut Fleet) -> Measured {
    fleet.start_hive(&fleet.hive_one(&timers(""))).await;
    let mut events = EventReader::start(&fleet.bus).await;
    let injected = SystemTime::now();
    fleet.spawn_mock("a", "m", "load=3s").await;
    let recovered = events.worker_event_named("a", "ready").await;
    assert_eq!(fleet.ready_in("a", 1).await.epoch, 1, "the worker was not killed");
    Measured::recovery(injected, recovered)
}

pub(in crate::chaos) const STALLED: Fault = Fault {
    name: "load-stalled",
    injected: "a load that stops making progress halfway",
    outcome: "the worker is killed after `load_stall` (1 s), reported as `ready-timeout`, and started again",
    detected_within: millis(1_100),
    recovered_within: millis(1_300),
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| stalled(fleet).boxed_local(),
};

async fn stalled(fleet: &mut Fleet) -> Measured {
    fleet.start_hive(&fleet.hive_one(&timers(""))).await;
    let mut events = EventReader::start(&fleet.bus).await;
    fleet.spawn_mock("a", "m", "load-stall").await;
    let injected = events.worker_event_named("a", "loading").await;
    let why_it_stops = |event: &WorkerEvent| match event {
        WorkerEvent::Stopping { why } => Some(why.clone()),
        _ => None,
    };
    let (why, detected) = events.worker_event("a", "stopping", why_it_stops).await;
    assert!(why.contains("no progress of its load"), "{why}");
    let class_of = |event: &WorkerEvent| match event {
        WorkerEvent::Exited { class, .. } => Some(*class),
        _ => None,
    };
    assert_eq!(events.worker_event("a", "exited", class_of).await.0, ExitClass::ReadyTimeout);
    let recovered = events.worker_event_named("a", "spawned").await;
    terminate_worker(fleet, "a").await;
    Measured::between(injected, detected, recovered)
}

pub(in crate::chaos) const TRUNCATED: Fault = Fault {
    name: "model-truncated",
    injected: "a model file that is truncated to its first 100 KiB",
    outcome: "the worker fails with `model-invalid` and is not started again",
    detected_within: millis(2_000),
    recovered_within: None,
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| truncated(fleet).boxed_local(),
};

async fn truncated(fleet: &mut Fleet) -> Measured {
    let mut whole = fs::File::open(tools::model()).expect("the model can be read");
    let mut part = vec![0; 100 << 10];
    whole.read_exact(&mut part).expect("the model is larger");
    given_up(fleet, &part).await
}

pub(in crate::chaos) const CORRUPT: Fault = Fault {
    name: "model-corrupt",
    injected: "a model file with a valid header and noise after it",
    outcome: "the worker fails with `model-invalid` and is not started again",
    detected_within: millis(2_000),
    recovered_within: None,
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| corrupt(fleet).boxed_local(),
};

async fn corrupt(fleet: &mut Fleet) -> Measured {
    // The magic number and version of GGUF, then counts that no file can hold.
    let mut noise = b"GGUF\x03\0\0\0".to_vec();
    noise.extend((0..100_000_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8 | 0x80));
    given_up(fleet, &noise).await
}

/// Starts a worker of an invalid model file, and checks that it fails at its first start and stays failed.
async fn given_up(fleet: &mut Fleet, file: &[u8]) -> Measured {
    let path = fleet.folder().join("model.gguf");
    fs::write(&path, file).expect("written");
    fleet.start_hive(&fleet.hive_one(&timers(""))).await;
    let mut events = EventReader::start(&fleet.bus).await;
    let injected = SystemTime::now();
    fleet.spawn("a", "m", ModelSpec::new(ModelReference::File(path))).await;
    let mut exits = Vec::new();
    let (failure, detected) = events
        .worker_event("a", "failed", |event| match event {
            WorkerEvent::Exited { class, code, .. } => {
                exits.push((*class, *code));
                None
            }
            WorkerEvent::Restarting { .. } => panic!("the worker is started again, although its model file is invalid"),
            WorkerEvent::Failed { failure, .. } => Some(failure.clone()),
            _ => None,
        })
        .await;
    assert_eq!((exits.as_slice(), failure.code), (&[(ExitClass::Data, Some(65))][..], FailureCode::ModelInvalid));
    Measured::detection(injected, detected)
}
