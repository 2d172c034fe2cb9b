//! Placement: the hive for a new worker. Hives that cannot run it are rejected with a reason, the others are ranked.

mod judge;
mod rank;
mod rejection;

use std::time::Instant;

use rbee_schema::{Failure, FailureCode, HiveName, ModelName, ModelSpec};

use self::judge::{Requirements, judge};
pub use self::{rank::Rank, rejection::Rejection};
use crate::decide::overlay::Overlay;

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
        // Its rank compares it with no other.
        1 => format!("{hive} is the only hive that can run it"),
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

#[cfg(test)]
mod tests;
