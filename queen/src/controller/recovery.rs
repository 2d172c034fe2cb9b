//! Commands of an earlier leader, recovered from the stream of events when a queen starts.

use std::time::{Duration, Instant, SystemTime};

use rbee_nats::{Bus, BusError, EventRecord, Subject, recent_events, retried};
use rbee_schema::{ModelName, QueenEvent};

use super::Controller;
use crate::decide::fleet::WorkerKey;

/// A spawn that was commanded and not reported by its hive yet.
struct CommandedSpawn {
    worker: WorkerKey,
    model: ModelName,
    /// Time since the command.
    age: Duration,
}

impl Controller {
    /// Reads the spawns that were commanded recently, so that they are not commanded again.
    pub(super) async fn recover_commands(&mut self) -> Result<(), BusError> {
        for CommandedSpawn { worker, model, age } in self.recent_spawns().await? {
            let now = Instant::now();
            self.fleet.spawn_commanded(worker, model, now.checked_sub(age).unwrap_or(now));
        }
        Ok(())
    }

    async fn recent_spawns(&self) -> Result<Vec<CommandedSpawn>, BusError> {
        retried(&self.bus, || recent_spawns(&self.bus, self.fleet.timers().order)).await
    }
}

/// Spawns commanded within `timeout`, by any leader, that no hive has reported yet.
async fn recent_spawns(bus: &Bus, timeout: Duration) -> Result<Vec<CommandedSpawn>, BusError> {
    let now = SystemTime::now();
    let since = now.checked_sub(timeout).unwrap_or(SystemTime::UNIX_EPOCH);
    let placed = recent_events(bus, &bus.namespace().all_placements(), since).await?;
    if placed.is_empty() {
        return Ok(Vec::new());
    }
    let worker_events = recent_events(bus, &bus.namespace().all_worker_events(), since).await?;
    let reported: Vec<WorkerKey> = worker_events.iter().filter_map(|event| worker_of(bus, &event.subject)).collect();
    let spawn = |event: &EventRecord| match serde_json::from_slice(&event.body) {
        Ok(QueenEvent::Placed { model, hive, worker, .. }) => {
            let age = now.duration_since(event.stored).unwrap_or_default();
            Some(CommandedSpawn { worker: (hive, worker), model, age })
        }
        _ => None,
    };
    Ok(placed.iter().filter_map(spawn).filter(|spawn| !reported.contains(&spawn.worker)).collect())
}

/// The worker that an event is about.
fn worker_of(bus: &Bus, subject: &str) -> Option<WorkerKey> {
    match bus.parse(subject)? {
        Subject::WorkerEvent(hive, worker, _) => Some((hive, worker)),
        _ => None,
    }
}
