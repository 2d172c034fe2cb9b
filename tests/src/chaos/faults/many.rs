//! More workers are requested than the hive has room for.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use futures::{FutureExt as _, StreamExt as _};
use rbee_schema::{Event, FailureCode, WorkerEvent, WorkerName};

use super::setup::timers;
use crate::{
    chaos::{events::EventReader, fault::Fault, measured::Measured, needs::Needs},
    fleet::{Fleet, HiveSetup},
};

/// Number of commands.
const COMMANDS: usize = 1_000;

/// Number of workers that the hive may run.
const ROOM: u16 = 40;

pub(in crate::chaos) const THOUSAND_SPAWNS: Fault = Fault {
    name: "thousand-spawns",
    injected: "a thousand commands at once to start a worker, to a hive that runs forty at most",
    outcome: "forty workers are ready, every other command is answered with `hive-full`, no port is leased twice",
    detected_within: Some(Duration::from_secs(60)),
    recovered_within: Some(Duration::from_secs(60)),
    healed_within: None,
    // The size of the default range, 8080-9999.
    ports: 1_920,
    needs: Needs::Nothing,
    inject: |fleet| thousand_spawns(fleet).boxed_local(),
};

async fn thousand_spawns(fleet: &mut Fleet) -> Measured {
    let one = fleet.hive_one(&timers("first_word=60s,load_base=60s,load_stall=60s"));
    let arguments = vec!["--max-workers".to_owned(), ROOM.to_string()];
    fleet.start_hive(&HiveSetup { arguments, ..one }).await;
    let mut events = EventReader::start(&fleet.bus).await;
    let injected = SystemTime::now();
    let names: Vec<String> = (0..COMMANDS).map(|number| format!("w{number}")).collect();
    let fleet = &*fleet;
    futures::stream::iter(&names)
        .for_each_concurrent(50, |name| async move { fleet.spawn_mock(name, "m", "").await })
        .await;
    let (mut ready, mut refused, mut ports) = (BTreeSet::<WorkerName>::new(), BTreeSet::new(), BTreeSet::new());
    let (mut detected, mut recovered) = (None, None);
    while ready.len() + refused.len() < COMMANDS {
        let (_, at) = events
            .find("answer to each command", |event| {
                let Event::Worker(_, worker, event) = event else { return None };
                match event {
                    WorkerEvent::Spawned { port, .. } => {
                        assert!(ports.insert(*port), "port {port} was leased twice");
                        None
                    }
                    WorkerEvent::Ready { .. } => Some(ready.insert(worker.clone())),
                    WorkerEvent::Failed { failure, .. } => {
                        assert_eq!(failure.code, FailureCode::HiveFull, "{failure}");
                        Some(refused.insert(worker.clone()))
                    }
                    WorkerEvent::Exited { .. } => panic!("{worker}: {event:?}"),
                    _ => None,
                }
            })
            .await;
        detected = detected.or((refused.len() == COMMANDS - usize::from(ROOM)).then_some(at));
        recovered = recovered.or((ready.len() == usize::from(ROOM)).then_some(at));
    }
    assert_eq!((ready.len(), ports.len()), (usize::from(ROOM), usize::from(ROOM)));
    Measured::between(injected, detected.expect("every refusal arrived"), recovered.expect("every worker became ready"))
}
