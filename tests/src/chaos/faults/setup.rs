//! Timers and time limits of the faults, and the removal of a worker at the end of one.

use std::time::Duration;

use rbee_schema::{HiveCommand, PortEvent, StopMode, WorkerName};

use crate::{chaos::events::EventReader, fleet::Fleet};

/// Timers of the hives that faults are injected into: short ones, so that a fault can be injected many times. A fault may
/// change some of them. Workers send a heartbeat every second, so no timer that waits for heartbeats can be shorter than
/// that. An idle worker checks its queue every second for a stop request, so it needs as long to terminate.
pub const TIMERS: &str = "first_word=20s,load_stall=1s,suspect=1500ms,silent=3s,hang=2s,health=5s,drain=2s,term=2s,kill=2s,\
                          first_backoff=50ms,backoff=100ms,backoff_most=200ms,trial=60s,shutdown=10s";

/// Limit for what happens without any timer: a millisecond or two on an idle machine.
pub(super) const AT_ONCE: Option<Duration> = millis(50);

/// A time limit in milliseconds.
pub(super) const fn millis(millis: u64) -> Option<Duration> {
    Some(Duration::from_millis(millis))
}

/// The timers of every fault, and those that one fault changes.
pub(super) fn timers(changed: &str) -> String {
    format!("{TIMERS},{changed}")
}

/// Terminates a worker for good, and waits until it is removed and its port released.
pub(super) async fn terminate_worker(fleet: &Fleet, worker: &str) {
    let mut events = EventReader::start(&fleet.bus).await;
    let port = fleet.record(worker).await.and_then(|record| record.port);
    let name: WorkerName = worker.parse().expect("a name of a test is valid");
    let stop = HiveCommand::Stop { worker: name, why: "the test is over".to_owned(), mode: StopMode::Terminate };
    fleet.command_hive_one(&stop).await;
    events.worker_event_named(worker, "removed").await;
    if let Some(port) = port {
        events.port_event(port, "released", |event| matches!(event, PortEvent::Released { .. }).then_some(())).await;
    }
}
