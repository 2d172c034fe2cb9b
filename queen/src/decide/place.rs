//! Placement: the hive for a new worker. Hives that cannot run it are rejected with a reason, the others are ranked.

use std::{
    cmp::Reverse,
    fmt,
    time::{Duration, Instant},
};

use rbee_schema::{
    ByteSize, Device, Failure, FailureCode, HiveName, HiveRecord, Labels, ModelName, ModelReference, ModelSpec,
    PlacementStrategy, Protocol, WorkerName,
};

use crate::decide::{backoff::Backoff, fleet::Hive, liveness::Presence, overlay::Overlay};

/// Hive chosen for a new worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Placement<'a> {
    /// Name of the hive.
    pub hive: &'a HiveName,
    /// Reason for this hive and against the others.
    pub why: String,
}

/// No hive can run a worker.
#[derive(Debug, Clone, PartialEq)]
pub struct NoPlacement {
    /// Each hive with the reason why it was rejected.
    pub failure: Failure,
    /// Chance that the reasons pass.
    pub outlook: Outlook,
    /// Hives that could run the worker if they had more room.
    pub full_hives: Vec<HiveName>,
}

/// Chance that waiting helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// A hive may join, be resumed, or have room again.
    Temporary,
    /// No hive will run the worker until somebody fixes the cause.
    Permanent,
}

/// One hive, judged for a new worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate<'a> {
    /// Name of the hive.
    pub hive: &'a HiveName,
    /// Rank of the hive, or the reason why it cannot run the worker.
    pub suitability: Result<Rank, Rejection<'a>>,
}

/// Rank of a hive: the smallest wins. The order of the fields is their weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// A degraded hive comes last.
    is_degraded: bool,
    /// Number of workers of the model on the hive. Zero where workers are packed.
    same_model: usize,
    /// True if the hive must download the model file first.
    must_fetch: bool,
    load: Load,
    /// More free memory is better. In bytes.
    memory_free: Reverse<u64>,
}

/// Number of workers on a hive, ordered as the model's placement strategy prefers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Load {
    FewestFirst(usize),
    MostFirst(Reverse<usize>),
}

/// Reason why a hive cannot run a worker.
#[derive(Debug, Clone, PartialEq)]
pub enum Rejection<'a> {
    /// The hive is draining.
    Draining,
    /// The hive has no registry key: it may be about to stop.
    NoKey,
    /// The hive has sent no heartbeat for this long.
    Unresponsive(Duration),
    /// The hive speaks another version of the protocol.
    Protocol(Protocol),
    /// The hive has no workers for this kind of model.
    Kind,
    /// The hive has workers for other devices only: the wanted device, and those that it has.
    Device(Device, &'a [Device]),
    /// The hive lacks a label: its name and value.
    Label(&'a str, &'a str),
    /// The hive runs its maximum number of workers.
    Full(u32),
    /// The hive has less memory than a worker needs.
    Memory {
        /// Memory that a worker needs, in bytes.
        needed: u64,
        /// Free memory of the hive, in bytes.
        free: u64,
    },
    /// A worker of the model is in a crash loop on the hive.
    CrashLoop {
        /// Name of the worker.
        worker: &'a WorkerName,
        /// Failure of its last exit.
        failure: &'a Failure,
    },
    /// The hive failed to start the model and is not tried again yet.
    Backoff(&'a Backoff),
}

/// Requirements of a worker that needs a hive.
struct Requirements<'a, 'b> {
    model: &'b ModelName,
    spec: &'a ModelSpec,
    /// Memory in bytes that the worker needs, where that is known.
    memory: Option<u64>,
    now: Instant,
}

/// All hives, judged for a new worker of `model`: the best first, then the rejected ones.
pub fn candidates<'a>(
    overlay: &Overlay<'a>,
    model: &ModelName,
    spec: &'a ModelSpec,
    now: Instant,
) -> Vec<Candidate<'a>> {
    let worker = Requirements { model, spec, memory: overlay.fleet().memory_of(model), now };
    let hives = overlay.fleet().hives().iter();
    let mut candidates: Vec<Candidate<'a>> =
        hives.map(|(name, hive)| Candidate { hive: name, suitability: judge(overlay, name, hive, &worker) }).collect();
    candidates.sort_by_key(|candidate| match &candidate.suitability {
        Ok(rank) => (false, Some(*rank)),
        Err(_) => (true, None),
    });
    candidates
}

/// Chooses the hive for a new worker of `model`.
///
/// # Errors
/// [`NoPlacement`] if no hive can run the worker.
pub fn place<'a>(
    overlay: &Overlay<'a>,
    model: &ModelName,
    spec: &'a ModelSpec,
    now: Instant,
) -> Result<Placement<'a>, NoPlacement> {
    let candidates = candidates(overlay, model, spec, now);
    let suitable: Vec<(&'a HiveName, Rank)> = candidates
        .iter()
        .filter_map(|candidate| Some((candidate.hive, *candidate.suitability.as_ref().ok()?)))
        .collect();
    let Some((hive, rank)) = suitable.first() else { return Err(no_placement(model, &candidates)) };
    let mut why = match suitable.len() {
        1 => format!("{hive} is the only hive that can run it: {rank}"),
        count => format!("{hive} is the best of {count} hives: {rank}"),
    };
    if let Some(trouble) = overlay.fleet().hives().get(*hive).and_then(|hive| hive.record.degraded.as_ref()) {
        why.push_str(&format!("; {hive} is degraded ({trouble}), but no healthy hive can run it"));
    }
    for (degraded, _) in suitable.iter().filter(|(_, other)| other.is_degraded && !rank.is_degraded) {
        why.push_str(&format!("; {degraded} is degraded"));
    }
    for Candidate { hive, suitability } in &candidates {
        if let Err(rejection) = suitability {
            why.push_str(&format!("; {hive} {rejection}"));
        }
    }
    Ok(Placement { hive, why })
}

fn judge<'a>(
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

/// Reads after the hive's name and a colon.
impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (load, preference) = match self.load {
            Load::FewestFirst(load) => (load, "fewest preferred"),
            Load::MostFirst(Reverse(load)) => (load, "most preferred"),
        };
        write!(f, "it runs {load} workers ({preference})")?;
        if self.same_model > 0 {
            write!(f, ", {} of them for this model", self.same_model)?;
        }
        if self.must_fetch {
            f.write_str(", must download the model first")?;
        }
        match self.memory_free.0 {
            0 => Ok(()),
            free => write!(f, ", and has {} MiB of memory free", free >> 20),
        }
    }
}

fn no_placement(model: &ModelName, candidates: &[Candidate<'_>]) -> NoPlacement {
    let rejected: Vec<(&HiveName, &Rejection<'_>)> = candidates
        .iter()
        .filter_map(|candidate| Some((candidate.hive, candidate.suitability.as_ref().err()?)))
        .collect();
    if rejected.is_empty() {
        let message =
            "no hive is connected: start one with `rbee hive --nats URL`, or everything on one machine with `rbee up`";
        let failure = Failure::new(FailureCode::NoCapacity, message);
        return NoPlacement { failure, outlook: Outlook::Temporary, full_hives: Vec::new() };
    }
    let (outlook, code) = prospects(&rejected);
    let reasons: Vec<String> = rejected.iter().map(|(hive, rejection)| format!("{hive} {rejection}")).collect();
    let advice = match code {
        FailureCode::CrashLoop => "; after fixing the cause, `rbee reset WORKER` starts it again at once",
        _ => "",
    };
    let message = format!("no hive can run {model}: {}{advice}", reasons.join("; "));
    let full = rejected.iter().filter(|(_, rejection)| rejection.needs_room()).map(|(hive, _)| (*hive).clone());
    NoPlacement { failure: Failure::new(code, message), outlook, full_hives: full.collect() }
}

/// Chance that one of the hives can run the worker later, and the code of the failure. Hives that are away do not count:
/// nobody knows what they could run.
fn prospects(rejected: &[(&HiveName, &Rejection<'_>)]) -> (Outlook, FailureCode) {
    let present: Vec<&Rejection<'_>> =
        rejected.iter().map(|(_, rejection)| *rejection).filter(|rejection| !rejection.is_absence()).collect();
    if present.is_empty() || !present.iter().all(|rejection| rejection.is_permanent()) {
        return (Outlook::Temporary, FailureCode::NoCapacity);
    }
    let codes = present.iter().map(|rejection| rejection.code());
    let code = codes.max_by_key(|code| *code == FailureCode::CrashLoop).unwrap_or(FailureCode::NoCapacity);
    (Outlook::Permanent, code)
}

impl Rejection<'_> {
    fn is_absence(&self) -> bool {
        matches!(self, Self::Draining | Self::NoKey | Self::Unresponsive(_))
    }

    /// True if one worker less on the hive would help.
    fn needs_room(&self) -> bool {
        match self {
            Self::Full(_) | Self::Memory { .. } => true,
            Self::Backoff(backoff) => backoff.needs_room(),
            Self::Draining
            | Self::NoKey
            | Self::Unresponsive(_)
            | Self::Protocol(_)
            | Self::Kind
            | Self::Device(..)
            | Self::Label(..)
            | Self::CrashLoop { .. } => false,
        }
    }

    /// True if the reason stays until somebody fixes it.
    fn is_permanent(&self) -> bool {
        match self {
            Self::Draining | Self::NoKey | Self::Unresponsive(_) | Self::Full(_) | Self::Memory { .. } => false,
            Self::Protocol(_) | Self::Kind | Self::Device(..) | Self::Label(..) | Self::CrashLoop { .. } => true,
            Self::Backoff(backoff) => backoff.until.is_none(),
        }
    }

    fn code(&self) -> FailureCode {
        match self {
            Self::Draining => FailureCode::HiveDraining,
            Self::Full(_) => FailureCode::HiveFull,
            Self::Memory { .. } => FailureCode::MemoryShort,
            Self::Device(..) => FailureCode::DeviceMissing,
            Self::CrashLoop { .. } => FailureCode::CrashLoop,
            Self::Backoff(backoff) => backoff.failure.code,
            Self::NoKey | Self::Unresponsive(_) | Self::Protocol(_) | Self::Kind | Self::Label(..) => {
                FailureCode::NoCapacity
            }
        }
    }
}

/// Reads after the hive's name.
impl fmt::Display for Rejection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Draining => f.write_str("is draining"),
            Self::NoKey => f.write_str("has no key in the registry: it is stopping, or will write the key again"),
            Self::Unresponsive(silence) => write!(f, "has sent no heartbeat for {silence:.1?}"),
            Self::Protocol(theirs) => {
                write!(f, "speaks protocol {theirs}, this queen {}: run one version of rbee", Protocol::OURS)
            }
            Self::Kind => f.write_str("has no workers for models of this kind"),
            Self::Device(wanted, has) => {
                let has: Vec<&str> = has.iter().map(|device| device.as_str()).collect();
                write!(f, "has workers for {}, not for {}", has.join(", "), wanted.as_str())
            }
            Self::Label(name, value) => write!(f, "lacks the label {name}={value}"),
            Self::Full(max) => write!(f, "runs {max} workers, its maximum"),
            Self::Memory { needed, free } => {
                let (needed, free) = (ByteSize(needed >> 20 << 20), ByteSize(free >> 20 << 20));
                write!(f, "has {free} of memory free, a worker needs {needed}")
            }
            Self::CrashLoop { worker, failure } => {
                write!(f, "has worker {worker} of this model in a crash loop: {failure}")
            }
            Self::Backoff(backoff) => write!(f, "could not start it: {}", backoff.failure),
        }
    }
}

#[cfg(test)]
mod tests;
