//! Judgment of one hive for a new worker.

use std::{cmp::Reverse, time::Instant};

use rbee_schema::{
    Device, HiveName, HiveRecord, Labels, ModelName, ModelReference, ModelSpec, PlacementStrategy, Protocol,
};

use super::{
    rank::{Load, Rank},
    rejection::Rejection,
};
use crate::decide::{fleet::Hive, liveness::Presence, overlay::Overlay};

/// Requirements of a worker that needs a hive.
pub(super) struct Requirements<'a, 'b> {
    pub(super) model: &'b ModelName,
    pub(super) spec: &'a ModelSpec,
    /// Memory in bytes that the worker needs, where that is known.
    pub(super) memory: Option<u64>,
    pub(super) now: Instant,
}

/// Ranks a hive for a worker, or rejects it.
pub(super) fn judge<'a>(
    overlay: &Overlay<'a>,
    name: &'a HiveName,
    hive: &'a Hive,
    worker: &Requirements<'a, '_>,
) -> Result<Rank, Rejection<'a>> {
    let rejection = is_away(hive, worker.now)
        .or_else(|| lacks_feature(&hive.record, worker.spec))
        .or_else(|| lacks_capacity(overlay, name, hive, worker))
        .or_else(|| overlay.fleet().backoffs().of_placement(name, worker.model, worker.now).map(Rejection::Backoff));
    match rejection {
        Some(rejection) => Err(rejection),
        None => Ok(rank(overlay, name, hive, worker)),
    }
}

/// The hive takes no workers for now, whatever they are.
fn is_away(hive: &Hive, now: Instant) -> Option<Rejection<'static>> {
    let Hive { record, liveness, has_key, .. } = hive;
    if record.protocol.shared(Protocol::OURS).is_none() {
        return Some(Rejection::Protocol(record.protocol));
    }
    if record.draining {
        return Some(Rejection::Draining);
    }
    if !has_key {
        return Some(Rejection::NoKey);
    }
    (liveness.presence() != Presence::Online).then(|| Rejection::Unresponsive(liveness.silence(now)))
}

/// The hive cannot run such workers. A feature that its record does not list is left to the hive, which refuses the command.
fn lacks_feature<'a>(record: &'a HiveRecord, spec: &'a ModelSpec) -> Option<Rejection<'a>> {
    if !record.kinds.is_empty() && !record.kinds.contains(&spec.kind) {
        return Some(Rejection::Kind);
    }
    let lacks = |device: &Device| !record.devices.is_empty() && !record.devices.contains(device);
    if let Some(device) = spec.device.filter(lacks) {
        return Some(Rejection::Device(device, &record.devices));
    }
    missing_label(record, &spec.labels).map(|(name, value)| Rejection::Label(name, value))
}

fn missing_label<'a>(record: &HiveRecord, wanted: &'a Labels) -> Option<(&'a str, &'a str)> {
    let missing = wanted.iter().find(|(name, value)| record.labels.get(*name) != Some(*value));
    missing.map(|(name, value)| (name.as_str(), value.as_str()))
}

/// The hive has no room for the worker, or cannot keep one of the model running.
fn lacks_capacity<'a>(
    overlay: &Overlay<'a>,
    name: &'a HiveName,
    hive: &Hive,
    worker: &Requirements<'a, '_>,
) -> Option<Rejection<'a>> {
    if let Some((worker, failure)) = overlay.fleet().crash_looping_on(name, worker.model) {
        return Some(Rejection::CrashLoop { worker, failure });
    }
    if let Some(max) = hive.record.max_workers.filter(|max| overlay.load(name) >= *max as usize) {
        return Some(Rejection::Full(max));
    }
    let (needed, room) = (worker.memory?, hive.free?);
    let free = room.memory.saturating_sub(overlay.promised_memory(name));
    (needed > free).then_some(Rejection::Memory { needed, free })
}

fn rank(overlay: &Overlay<'_>, name: &HiveName, hive: &Hive, worker: &Requirements<'_, '_>) -> Rank {
    let load = overlay.load(name);
    let (same_model, load) = match worker.spec.placement {
        PlacementStrategy::Spread => (overlay.load_of(name, worker.model), Load::FewestFirst(load)),
        PlacementStrategy::Pack => (0, Load::MostFirst(Reverse(load))),
    };
    let reference = &worker.spec.reference;
    let must_fetch = match reference {
        ModelReference::Hub(_) => !overlay.fleet().has_file(name, reference),
        ModelReference::File(_) | ModelReference::Mock(_) => false,
    };
    let memory_free = Reverse(hive.free.map_or(0, |room| room.memory));
    Rank { is_degraded: hive.record.degraded.is_some(), same_model, must_fetch, load, memory_free }
}
