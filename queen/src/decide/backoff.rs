//! Backoff after failures: which models are not started for now, on one hive or on any.
//!
//! A failure that may pass, such as a lack of memory, blocks the model on the hive where it happened, and only for a short
//! time: another hive may have room. A failure that does not pass without intervention blocks the model until a new job
//! asks for it, because somebody may have fixed the cause. It blocks one hive where the machine is the cause, and all hives
//! where the model is.

use std::{collections::BTreeMap, time::Instant};

use rbee_schema::{Failure, FailureCode, HiveName, ModelName};

/// Models that are not started for now.
#[derive(Debug, Clone, Default)]
pub struct Backoffs {
    models: BTreeMap<ModelName, Failure>,
    placements: BTreeMap<(HiveName, ModelName), Backoff>,
}

/// Backoff of one model on one hive.
#[derive(Debug, Clone, PartialEq)]
pub struct Backoff {
    /// Time of the next try; `None` until a new job asks for the model.
    pub until: Option<Instant>,
    /// Failure of the last try.
    pub failure: Failure,
}

impl Backoff {
    /// True where the hive lacked capacity: one worker less would help.
    pub fn needs_room(&self) -> bool {
        matches!(self.failure.code, FailureCode::MemoryShort | FailureCode::HiveFull | FailureCode::PortsExhausted)
    }
}

impl Backoffs {
    /// Records that a hive failed to start a worker of a model or gave it up. A failure that may pass is retried at `retry_at`.
    pub fn record_failure(&mut self, hive: &HiveName, model: &ModelName, failure: &Failure, retry_at: Instant) {
        let until = failure.retryable.then_some(retry_at);
        let is_caused_by_machine = matches!(failure.code, FailureCode::DeviceMissing | FailureCode::OutOfMemory);
        if until.is_some() || is_caused_by_machine {
            self.placements.insert((hive.clone(), model.clone()), Backoff { until, failure: failure.clone() });
        } else {
            self.models.insert(model.clone(), failure.clone());
        }
    }

    /// Ends the backoff of a model whose worker became ready on a hive.
    pub fn record_success(&mut self, hive: &HiveName, model: &ModelName) {
        self.models.remove(model);
        self.placements.remove(&(hive.clone(), model.clone()));
    }

    /// Ends the backoffs of a model that have no end time, because a new job asks for the model.
    pub fn retry_on_demand(&mut self, model: &ModelName) {
        self.models.remove(model);
        self.placements.retain(|(_, blocked), backoff| blocked != model || backoff.until.is_some());
    }

    /// Ends all backoffs of a model, because its declaration was changed or withdrawn.
    pub fn forget_model(&mut self, model: &ModelName) {
        self.models.remove(model);
        self.placements.retain(|(_, blocked), _| blocked != model);
    }

    /// Ends the backoffs of a hive that waited for room, because a worker left it.
    pub fn room_freed(&mut self, hive: &HiveName) {
        self.placements.retain(|(at, _), backoff| at != hive || !backoff.needs_room());
    }

    /// Failure for which a model is not started on some hive, or on any.
    pub fn failure_of(&self, model: &ModelName) -> Option<&Failure> {
        self.models.get(model).or_else(|| {
            let mut placements = self.placements.iter();
            placements.find(|((_, blocked), _)| blocked == model).map(|(_, backoff)| &backoff.failure)
        })
    }

    /// Ends all backoffs of a hive, because it left or restarted.
    pub fn forget_hive(&mut self, hive: &HiveName) {
        self.placements.retain(|(at, _), _| at != hive);
    }

    /// Failure for which a model is not started on any hive.
    pub fn of_model(&self, model: &ModelName) -> Option<&Failure> {
        self.models.get(model)
    }

    /// Backoff of a model on a hive that is in force at `now`.
    pub fn of_placement(&self, hive: &HiveName, model: &ModelName, now: Instant) -> Option<&Backoff> {
        let backoff = self.placements.get(&(hive.clone(), model.clone()))?;
        backoff.until.is_none_or(|until| now < until).then_some(backoff)
    }

    /// End times of all backoffs that have one.
    pub fn deadlines(&self) -> impl Iterator<Item = Instant> {
        self.placements.values().filter_map(|backoff| backoff.until)
    }
}
