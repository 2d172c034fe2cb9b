//! What failed and is left alone for now: a model everywhere, or a model on one hive.
//!
//! What may pass, such as a lack of memory, holds for the hive where it was met and for a short time: another hive may
//! have room. What does not pass by itself holds until somebody asks for the model again, because somebody may have
//! mended it; it holds for one hive where the machine is at fault, and everywhere where the model is.

use std::{collections::BTreeMap, time::Instant};

use rbee_schema::{Failure, FailureCode, HiveName, ModelName};

/// What is not to be tried for now.
#[derive(Debug, Clone, Default)]
pub struct Held {
    models: BTreeMap<ModelName, Failure>,
    places: BTreeMap<(HiveName, ModelName), Pause>,
}

/// A model is left alone on one hive.
#[derive(Debug, Clone, PartialEq)]
pub struct Pause {
    /// Until when; `None` for until somebody asks for the model again.
    pub until: Option<Instant>,
    /// Why.
    pub failure: Failure,
}

impl Pause {
    /// Whether what was short there is room for another worker.
    pub fn wants_room(&self) -> bool {
        matches!(self.failure.code, FailureCode::MemoryShort | FailureCode::HiveFull | FailureCode::PortsExhausted)
    }
}

impl Held {
    /// A worker of a model could not be started on a hive, or was given up there; where that may pass it is tried `again`.
    pub fn failed(&mut self, hive: &HiveName, model: &ModelName, failure: &Failure, again: Instant) {
        let until = failure.retryable.then_some(again);
        let is_the_machines = matches!(failure.code, FailureCode::DeviceMissing | FailureCode::OutOfMemory);
        if until.is_some() || is_the_machines {
            self.places.insert((hive.clone(), model.clone()), Pause { until, failure: failure.clone() });
        } else {
            self.models.insert(model.clone(), failure.clone());
        }
    }

    /// A worker of a model is ready on a hive: whatever was wrong is mended.
    pub fn worked(&mut self, hive: &HiveName, model: &ModelName) {
        self.models.remove(model);
        self.places.remove(&(hive.clone(), model.clone()));
    }

    /// Somebody asks for a model again: what does not pass by itself may have been mended.
    pub fn asked_again(&mut self, model: &ModelName) {
        self.models.remove(model);
        self.places.retain(|(_, held), pause| held != model || pause.until.is_some());
    }

    /// A model is declared anew, or no longer.
    pub fn forget_model(&mut self, model: &ModelName) {
        self.models.remove(model);
        self.places.retain(|(_, held), _| held != model);
    }

    /// A hive has room that it had not: what had none there may be tried at once.
    pub fn has_room(&mut self, hive: &HiveName) {
        self.places.retain(|(at, _), pause| at != hive || !pause.wants_room());
    }

    /// A hive is gone, or begins anew.
    pub fn forget_hive(&mut self, hive: &HiveName) {
        self.places.retain(|(at, _), _| at != hive);
    }

    /// Why a model is not to be tried anywhere.
    pub fn everywhere(&self, model: &ModelName) -> Option<&Failure> {
        self.models.get(model)
    }

    /// Why a model is not to be tried on a hive.
    pub fn on(&self, hive: &HiveName, model: &ModelName, now: Instant) -> Option<&Pause> {
        let pause = self.places.get(&(hive.clone(), model.clone()))?;
        pause.until.is_none_or(|until| now < until).then_some(pause)
    }

    /// When pauses end by themselves.
    pub fn ends(&self) -> impl Iterator<Item = Instant> {
        self.places.values().filter_map(|pause| pause.until)
    }
}
