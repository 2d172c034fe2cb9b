//! On which hive a new worker goes.

use std::{fmt, time::Instant};

use rbee_schema::{Failure, FailureCode, HiveName, HiveRecord, ModelName, WorkerName};

use crate::decide::{fleet::Fleet, held::Pause};

/// No hive can take a worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Nowhere {
    /// Each hive with the reason why it was passed over.
    pub failure: Failure,
    /// Whether that may change by itself.
    pub outlook: Outlook,
}

/// Whether waiting can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// A hive may come, be resumed, or have room again.
    MayPass,
    /// No hive will take the worker until somebody mends what is wrong.
    Stays,
}

/// Why a hive is passed over.
enum Obstacle<'a> {
    Draining,
    CrashLoop { worker: &'a WorkerName, failure: &'a Failure },
    Held(&'a Pause),
}

/// Chooses the hive that runs the fewest workers of those that can take one of `model`, and says why. A degraded hive
/// is chosen only where there is no other.
///
/// # Errors
/// No hive can take it.
pub fn place(fleet: &Fleet, model: &ModelName, now: Instant) -> Result<(HiveName, String), Nowhere> {
    let mut passed_over = Vec::new();
    let mut able = Vec::new();
    for (hive, record) in &fleet.hives {
        match obstacle(fleet, hive, record, model, now) {
            Some(obstacle) => passed_over.push((hive, obstacle)),
            None => able.push((record.degraded.is_some(), fleet.load(hive), hive)),
        }
    }
    let Some((is_degraded, load, hive)) = able.iter().min() else { return Err(nowhere(model, &passed_over)) };
    let choice = able.iter().filter(|(degraded, ..)| degraded == is_degraded).count();
    let mut why = format!("it runs {load} workers, the fewest of {choice} hives");
    if let Some(trouble) = &fleet.hives[*hive].degraded {
        why.push_str(&format!("; it is degraded ({trouble}), and no other can take the worker"));
    }
    for (_, _, left_out) in able.iter().filter(|(degraded, ..)| degraded != is_degraded) {
        why.push_str(&format!("; {left_out} is degraded"));
    }
    for (hive, obstacle) in &passed_over {
        why.push_str(&format!("; {hive} {obstacle}"));
    }
    Ok(((*hive).clone(), why))
}

fn obstacle<'a>(
    fleet: &'a Fleet,
    hive: &HiveName,
    record: &HiveRecord,
    model: &ModelName,
    now: Instant,
) -> Option<Obstacle<'a>> {
    if record.draining {
        return Some(Obstacle::Draining);
    }
    if let Some((worker, failure)) = fleet.looping_on(hive, model) {
        return Some(Obstacle::CrashLoop { worker, failure });
    }
    fleet.held.on(hive, model, now).map(Obstacle::Held)
}

fn nowhere(model: &ModelName, passed_over: &[(&HiveName, Obstacle<'_>)]) -> Nowhere {
    if passed_over.is_empty() {
        let message =
            "no hive is connected: start one with `rbee hive --nats URL`, or everything on one machine with `rbee up`";
        return Nowhere { failure: Failure::new(FailureCode::NoCapacity, message), outlook: Outlook::MayPass };
    }
    // What a draining hive would do nobody knows: it counts neither way.
    let known = || passed_over.iter().map(|(_, obstacle)| obstacle).filter(|obstacle| !obstacle.is_draining());
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
    Nowhere { failure: Failure::new(code, message), outlook }
}

impl Obstacle<'_> {
    fn is_draining(&self) -> bool {
        matches!(self, Self::Draining)
    }

    /// Whether it does not pass by itself.
    fn stays(&self) -> bool {
        match self {
            Self::Draining => false,
            Self::CrashLoop { .. } => true,
            Self::Held(pause) => pause.until.is_none(),
        }
    }

    fn code(&self) -> FailureCode {
        match self {
            Self::Draining => FailureCode::HiveDraining,
            Self::CrashLoop { .. } => FailureCode::CrashLoop,
            Self::Held(pause) => pause.failure.code,
        }
    }
}

/// Reads after the hive's name.
impl fmt::Display for Obstacle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Draining => f.write_str("drains"),
            Self::CrashLoop { worker, failure } => write!(f, "has worker {worker} of it in a crash loop: {failure}"),
            Self::Held(pause) => write!(f, "could not start it: {}", pause.failure),
        }
    }
}

#[cfg(test)]
mod tests;
