//! On which hive a new worker goes: those that cannot take it are passed over, the rest are ranked.

use std::{
    cmp::Reverse,
    fmt,
    time::{Duration, Instant},
};

use rbee_schema::{
    ByteSize, Device, Failure, FailureCode, HiveName, HiveRecord, Labels, ModelName, ModelReference, ModelSpec,
    PlacementStrategy, Protocol, WorkerName,
};

use crate::decide::{
    fleet::{Fleet, Hive},
    held::Pause,
    liveness::Presence,
};

/// No hive can take a worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Nowhere {
    /// Each hive with the reason why it was passed over.
    pub failure: Failure,
    /// Whether that may change by itself.
    pub outlook: Outlook,
    /// Hives that could take it if they had more room.
    pub crowded: Vec<HiveName>,
}

/// Whether waiting can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// A hive may come, be resumed, or have room again.
    MayPass,
    /// No hive will take the worker until somebody mends what is wrong.
    Stays,
}

/// What is thought of one hive for a new worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict<'a> {
    /// Which hive.
    pub hive: &'a HiveName,
    /// How well it is suited, or why it is not.
    pub suited: Result<Rank, Obstacle<'a>>,
}

/// How well a hive is suited: the smallest is taken. The order of the fields is the order of what counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Trouble comes last.
    degraded: bool,
    /// Where workers are spread: how many of the model it has already.
    together: usize,
    /// Whether the model file has to be fetched first.
    to_fetch: bool,
    /// How many workers it has: the fewest first where they are spread, the most where they are packed.
    crowd: Crowd,
    /// The more memory is free the better.
    memory_free: Reverse<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Crowd {
    Fewest(usize),
    Most(Reverse<usize>),
}

/// Why a hive is passed over.
#[derive(Debug, Clone, PartialEq)]
pub enum Obstacle<'a> {
    /// It takes no workers.
    Draining,
    /// It may have ended.
    NoKey,
    /// Nothing is heard of it.
    Silent(Duration),
    /// It is of another version.
    Protocol(Protocol),
    /// Its workers cannot do that.
    Kind,
    /// Its workers do not run on the device.
    Device(Device, &'a [Device]),
    /// It lacks a label.
    Label(&'a str, &'a str),
    /// It runs as many workers as it may.
    Full(u32),
    /// It has less memory than such a worker needs.
    Memory {
        /// In bytes.
        needed: u64,
        /// In bytes.
        free: u64,
    },
    /// A worker of the model ends there again and again.
    CrashLoop {
        /// Which.
        worker: &'a WorkerName,
        /// Why.
        failure: &'a Failure,
    },
    /// It could not be started there.
    Held(&'a Pause),
}

/// What is thought of every hive for a new worker of `model`, the best first, then those that are passed over.
pub fn verdicts<'a>(fleet: &'a Fleet, model: &ModelName, spec: &'a ModelSpec, now: Instant) -> Vec<Verdict<'a>> {
    let needed = fleet.memory_of(model);
    let verdict = |(name, hive): (&'a HiveName, &'a Hive)| {
        let obstacle =
            obstacle(fleet, name, hive, model, spec, now).or_else(|| short_of_memory(fleet, name, hive, needed));
        let held = || fleet.held.on(name, model, now).map(Obstacle::Held);
        let suited = match obstacle.or_else(held) {
            Some(obstacle) => Err(obstacle),
            None => Ok(rank(fleet, name, hive, model, spec)),
        };
        Verdict { hive: name, suited }
    };
    let mut verdicts: Vec<Verdict<'a>> = fleet.hives.iter().map(verdict).collect();
    verdicts.sort_by_key(|verdict| match &verdict.suited {
        Ok(rank) => (false, Some(*rank)),
        Err(_) => (true, None),
    });
    verdicts
}

/// Chooses the hive for a new worker of `model`, and says why.
///
/// # Errors
/// No hive can take it.
pub fn place(fleet: &Fleet, model: &ModelName, spec: &ModelSpec, now: Instant) -> Result<(HiveName, String), Nowhere> {
    let verdicts = verdicts(fleet, model, spec, now);
    let able: Vec<(&HiveName, Rank)> =
        verdicts.iter().filter_map(|verdict| Some((verdict.hive, *verdict.suited.as_ref().ok()?))).collect();
    let Some((hive, rank)) = able.first() else { return Err(nowhere(model, &verdicts)) };
    let mut why = match able.len() {
        1 => format!("{hive} is the only hive that can take it: {rank}"),
        count => format!("{hive} is the best of {count} hives: {rank}"),
    };
    if let Some(trouble) = fleet.hives.get(*hive).and_then(|hive| hive.record.degraded.as_ref()) {
        why.push_str(&format!("; it is degraded ({trouble}), and no other can take the worker"));
    }
    for (left_out, _) in able.iter().filter(|(_, other)| other.degraded && !rank.degraded) {
        why.push_str(&format!("; {left_out} is degraded"));
    }
    for Verdict { hive, suited } in &verdicts {
        if let Err(obstacle) = suited {
            why.push_str(&format!("; {hive} {obstacle}"));
        }
    }
    Ok(((*hive).clone(), why))
}

fn obstacle<'a>(
    fleet: &'a Fleet,
    name: &HiveName,
    hive: &'a Hive,
    model: &ModelName,
    spec: &'a ModelSpec,
    now: Instant,
) -> Option<Obstacle<'a>> {
    let Hive { record, liveness, has_key, .. } = hive;
    if record.protocol.shared(Protocol::OURS).is_none() {
        return Some(Obstacle::Protocol(record.protocol));
    }
    if record.draining {
        return Some(Obstacle::Draining);
    }
    if !has_key {
        return Some(Obstacle::NoKey);
    }
    if liveness.presence() != Presence::Online {
        return Some(Obstacle::Silent(liveness.silence(now)));
    }
    // What a hive does not say it is asked for by the command itself.
    if !record.kinds.is_empty() && !record.kinds.contains(&spec.kind) {
        return Some(Obstacle::Kind);
    }
    if let Some(wanted) = spec.device.filter(|wanted| !record.devices.is_empty() && !record.devices.contains(wanted)) {
        return Some(Obstacle::Device(wanted, &record.devices));
    }
    if let Some((name, value)) = missing_label(record, &spec.labels) {
        return Some(Obstacle::Label(name, value));
    }
    if let Some((worker, failure)) = fleet.looping_on(name, model) {
        return Some(Obstacle::CrashLoop { worker, failure });
    }
    if let Some(most) = record.max_workers.filter(|most| fleet.load(name) >= *most as usize) {
        return Some(Obstacle::Full(most));
    }
    None
}

fn short_of_memory<'a>(fleet: &Fleet, name: &HiveName, hive: &Hive, needed: Option<u64>) -> Option<Obstacle<'a>> {
    let (needed, room) = (needed?, hive.free?);
    let free = room.memory.saturating_sub(promised(fleet, name));
    (needed > free).then_some(Obstacle::Memory { needed, free })
}

/// The memory of workers that were commanded and of which the hive has not told yet.
fn promised(fleet: &Fleet, hive: &HiveName) -> u64 {
    let orders = fleet.orders.iter().filter(|((at, _), _)| at == hive);
    orders.filter_map(|(_, order)| fleet.memory_of(&order.model)).sum()
}

fn missing_label<'a>(record: &HiveRecord, wanted: &'a Labels) -> Option<(&'a str, &'a str)> {
    let missing = wanted.iter().find(|(name, value)| record.labels.get(*name) != Some(*value));
    missing.map(|(name, value)| (name.as_str(), value.as_str()))
}

fn rank(fleet: &Fleet, name: &HiveName, hive: &Hive, model: &ModelName, spec: &ModelSpec) -> Rank {
    let load = fleet.load(name);
    let (together, crowd) = match spec.placement {
        PlacementStrategy::Spread => (fleet.load_of(name, model), Crowd::Fewest(load)),
        PlacementStrategy::Pack => (0, Crowd::Most(Reverse(load))),
    };
    let to_fetch = match &spec.reference {
        ModelReference::Hub(_) => !fleet.has_file(name, &spec.reference),
        ModelReference::File(_) | ModelReference::Mock(_) => false,
    };
    let memory_free = Reverse(hive.free.map_or(0, |room| room.memory));
    Rank { degraded: hive.record.degraded.is_some(), together, to_fetch, crowd, memory_free }
}

/// Reads after the hive's name and a colon.
impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (load, crowd) = match self.crowd {
            Crowd::Fewest(load) => (load, "fewer are better"),
            Crowd::Most(Reverse(load)) => (load, "more are better"),
        };
        write!(f, "it runs {load} workers ({crowd})")?;
        if self.together > 0 {
            write!(f, ", {} of the model", self.together)?;
        }
        if self.to_fetch {
            f.write_str(", has to fetch the model")?;
        }
        match self.memory_free.0 {
            0 => Ok(()),
            free => write!(f, ", and has {} MiB free", free >> 20),
        }
    }
}

fn nowhere(model: &ModelName, verdicts: &[Verdict<'_>]) -> Nowhere {
    let passed_over: Vec<(&HiveName, &Obstacle<'_>)> =
        verdicts.iter().filter_map(|verdict| Some((verdict.hive, verdict.suited.as_ref().err()?))).collect();
    if passed_over.is_empty() {
        let message =
            "no hive is connected: start one with `rbee hive --nats URL`, or everything on one machine with `rbee up`";
        let failure = Failure::new(FailureCode::NoCapacity, message);
        return Nowhere { failure, outlook: Outlook::MayPass, crowded: Vec::new() };
    }
    // What a draining or silent hive would do nobody knows: it counts neither way.
    let known = || passed_over.iter().map(|(_, obstacle)| *obstacle).filter(|obstacle| !obstacle.is_away());
    let outlook = if known().count() > 0 && known().all(Obstacle::stays) { Outlook::Stays } else { Outlook::MayPass };
    let code = match outlook {
        Outlook::MayPass => FailureCode::NoCapacity,
        Outlook::Stays => known()
            .map(Obstacle::code)
            .max_by_key(|code| *code == FailureCode::CrashLoop)
            .unwrap_or(FailureCode::NoCapacity),
    };
    let reasons: Vec<String> = passed_over.iter().map(|(hive, obstacle)| format!("{hive} {obstacle}")).collect();
    let advice = match code {
        FailureCode::CrashLoop => "; once it is mended, `rbee reset WORKER` tries it again at once",
        _ => "",
    };
    let message = format!("no hive can run {model}: {}{advice}", reasons.join("; "));
    let crowded = passed_over.iter().filter(|(_, obstacle)| obstacle.is_crowd()).map(|(hive, _)| (*hive).clone());
    Nowhere { failure: Failure::new(code, message), outlook, crowded: crowded.collect() }
}

impl Obstacle<'_> {
    fn is_away(&self) -> bool {
        matches!(self, Self::Draining | Self::NoKey | Self::Silent(_))
    }

    /// Whether a worker less would help.
    fn is_crowd(&self) -> bool {
        match self {
            Self::Full(_) | Self::Memory { .. } => true,
            Self::Held(pause) => pause.wants_room(),
            Self::Draining
            | Self::NoKey
            | Self::Silent(_)
            | Self::Protocol(_)
            | Self::Kind
            | Self::Device(..)
            | Self::Label(..)
            | Self::CrashLoop { .. } => false,
        }
    }

    /// Whether it does not pass by itself.
    fn stays(&self) -> bool {
        match self {
            Self::Draining | Self::NoKey | Self::Silent(_) | Self::Full(_) | Self::Memory { .. } => false,
            Self::Protocol(_) | Self::Kind | Self::Device(..) | Self::Label(..) | Self::CrashLoop { .. } => true,
            Self::Held(pause) => pause.until.is_none(),
        }
    }

    fn code(&self) -> FailureCode {
        match self {
            Self::Draining => FailureCode::HiveDraining,
            Self::Full(_) => FailureCode::HiveFull,
            Self::Memory { .. } => FailureCode::MemoryShort,
            Self::Device(..) => FailureCode::DeviceMissing,
            Self::CrashLoop { .. } => FailureCode::CrashLoop,
            Self::Held(pause) => pause.failure.code,
            Self::NoKey | Self::Silent(_) | Self::Protocol(_) | Self::Kind | Self::Label(..) => FailureCode::NoCapacity,
        }
    }
}

/// Reads after the hive's name.
impl fmt::Display for Obstacle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Draining => f.write_str("drains"),
            Self::NoKey => f.write_str("has no key in the registry: it ends, or will write it again"),
            Self::Silent(silence) => write!(f, "is silent for {silence:.1?}"),
            Self::Protocol(theirs) => {
                write!(f, "speaks protocol {theirs} and this queen {}: run one version of rbee", Protocol::OURS)
            }
            Self::Kind => f.write_str("has no workers for models of this kind"),
            Self::Device(wanted, has) => {
                let has: Vec<&str> = has.iter().map(|device| device.as_str()).collect();
                write!(f, "has workers for {} and not for {}", has.join(", "), wanted.as_str())
            }
            Self::Label(name, value) => write!(f, "has not the label {name}={value}"),
            Self::Full(most) => write!(f, "runs {most} workers, as many as it may"),
            Self::Memory { needed, free } => {
                let (needed, free) = (ByteSize(needed >> 20 << 20), ByteSize(free >> 20 << 20));
                write!(f, "has {free} of memory free, and a worker of it needs {needed}")
            }
            Self::CrashLoop { worker, failure } => write!(f, "has worker {worker} of it in a crash loop: {failure}"),
            Self::Held(pause) => write!(f, "could not start it: {}", pause.failure),
        }
    }
}

#[cfg(test)]
mod tests;
