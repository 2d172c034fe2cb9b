//! Preemption: an idle worker makes room for a model that is in demand.

use std::time::Instant;

use rbee_schema::{HiveName, ModelName, ModelSpec};

use crate::decide::{
    fleet::{Worker, WorkerKey},
    overlay::Overlay,
};

/// Chooses a worker that makes room for one of `model` on a full hive, and says why. It must be idle, not pinned, of no
/// higher priority, and of a model that can spare it. The lowest priority is chosen, then the longest idle time. A worker
/// that has served for less than the timer `residency` is spared: otherwise models would take turns in loading.
pub(super) fn preempt<'a>(
    overlay: &Overlay<'a>,
    model: &ModelName,
    spec: &ModelSpec,
    full_hives: &[HiveName],
    now: Instant,
) -> Option<(&'a WorkerKey, String)> {
    let fleet = overlay.fleet();
    let mut victims = Vec::new();
    for hive in full_hives {
        if fleet.workers_of(hive).any(|(key, worker)| overlay.is_stopping(key, worker)) {
            return None; // That worker makes room already.
        }
        for (key, worker) in fleet.workers_of(hive).filter(|(_, worker)| worker.record.model != *model) {
            let Some(other) = fleet.models().get(&worker.record.model) else { continue };
            let has_served = worker.ready_since.is_some_and(|since| now >= since + fleet.timers().residency);
            let may_go = worker.is_idle() && has_served && !other.pinned && other.priority <= spec.priority;
            if may_go && can_spare(overlay, worker, other) {
                victims.push((other.priority, worker.idle_since, key));
            }
        }
    }
    let (_, idle_since, key) = victims.into_iter().min()?;
    let idle = now.saturating_duration_since(idle_since);
    Some((key, format!("it was idle for {idle:.1?}, and jobs wait for {model}, which needs its room")))
}

/// True if the model of a worker can do without it: no job waits, and it has more workers than its minimum.
fn can_spare(overlay: &Overlay<'_>, worker: &Worker, spec: &ModelSpec) -> bool {
    let (fleet, model) = (overlay.fleet(), &worker.record.model);
    !fleet.is_in_demand(model) && fleet.waiting(model) == 0 && overlay.capacity(model) > spec.replicas.min
}
