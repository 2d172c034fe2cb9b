//! A model loads slowly, not at all, or is none.

use std::{fs, io::Read as _, time::SystemTime};

use futures::FutureExt as _;
use rbee_schema::{ExitClass, FailureCode, ModelReference, ModelSpec, WorkerEvent};

use super::{end_worker, millis, timers};
use crate::{
    chaos::{Fault, Measured, Needs, Story},
    fleet::Fleet,
    tools,
};

pub(super) const SLOW: Fault = Fault {
    name: "load-slow",
    injected: "a load that takes three times its stall limit (1 s), and moves",
    outcome: "ready in its first run",
    detected_within: None,
    recovered_within: None,
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| slow(fleet).boxed_local(),
};

async fn slow(fleet: &mut Fleet) -> Measured {
    fleet.start_hive(&fleet.one(&timers(""))).await;
    let mut story = Story::of(&fleet.bus).await;
    let injected = SystemTime::now();
    fleet.spawn_mock("a", "m", "load=3s").await;
    let mended = story.named("a", "ready").await;
    assert_eq!(fleet.ready_in("a", 1).await.epoch, 1, "it was not killed");
    Measured::mended(injected, mended)
}

pub(super) const STALLED: Fault = Fault {
    name: "load-stalled",
    injected: "a load that stops halfway",
    outcome: "killed after `load_stall` (1 s), told as `ready-timeout`, tried again",
    detected_within: millis(1_100),
    recovered_within: millis(1_300),
    healed_within: None,
    ports: 10,
    needs: Needs::Nothing,
    inject: |fleet| stalled(fleet).boxed_local(),
};

async fn stalled(fleet: &mut Fleet) -> Measured {
    fleet.start_hive(&fleet.one(&timers(""))).await;
    let mut story = Story::of(&fleet.bus).await;
    fleet.spawn_mock("a", "m", "load-stall").await;
    let injected = story.named("a", "loading").await;
    let why_it_stops = |event: &WorkerEvent| match event {
        WorkerEvent::Stopping { why } => Some(why.clone()),
        _ => None,
    };
    let (why, told) = story.worker("a", "stopping", why_it_stops).await;
    assert!(why.contains("no progress of its load"), "{why}");
    let class_of = |event: &WorkerEvent| match event {
        WorkerEvent::Exited { class, .. } => Some(*class),
        _ => None,
    };
    assert_eq!(story.worker("a", "exited", class_of).await.0, ExitClass::ReadyTimeout);
    let mended = story.named("a", "spawned").await;
    end_worker(fleet, "a").await;
    Measured::between(injected, told, mended)
}

pub(super) const TRUNCATED: Fault = Fault {
    name: "model-truncated",
    injected: "a model file of which only the first 100 KiB are there",
    outcome: "failed with `model-invalid`, and not tried again",
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

pub(super) const CORRUPT: Fault = Fault {
    name: "model-corrupt",
    injected: "a model file with the right beginning and noise after it",
    outcome: "failed with `model-invalid`, and not tried again",
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

/// A worker of such a file fails at its first start, for good.
async fn given_up(fleet: &mut Fleet, file: &[u8]) -> Measured {
    let path = fleet.folder().join("model.gguf");
    fs::write(&path, file).expect("written");
    fleet.start_hive(&fleet.one(&timers(""))).await;
    let mut story = Story::of(&fleet.bus).await;
    let injected = SystemTime::now();
    fleet.spawn("a", "m", ModelSpec::new(ModelReference::File(path))).await;
    let mut exits = Vec::new();
    let (failure, told) = story
        .worker("a", "failed", |event| match event {
            WorkerEvent::Exited { class, code, .. } => {
                exits.push((*class, *code));
                None
            }
            WorkerEvent::Restarting { .. } => panic!("it is started again, which cannot help"),
            WorkerEvent::Failed { failure, .. } => Some(failure.clone()),
            _ => None,
        })
        .await;
    assert_eq!((exits.as_slice(), failure.code), (&[(ExitClass::Data, Some(65))][..], FailureCode::ModelInvalid));
    Measured::told(injected, told)
}
