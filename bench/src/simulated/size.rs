//! The size of a simulated fleet, and the names and declarations that follow from it.

use rbee_schema::{HiveName, ModelName, ModelReference, ModelSpec, Replicas};

/// Size of a fleet.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Number of hives.
    pub hives: usize,
    /// Number of workers of each hive.
    pub workers: usize,
    /// Number of models. Each has the same number of workers.
    pub models: usize,
}

impl Size {
    /// Number of workers of all hives.
    pub fn all_workers(self) -> usize {
        self.hives * self.workers
    }

    /// Declaration of a model. Its number of replicas is the number of workers that it has.
    pub(super) fn declaration(self) -> ModelSpec {
        let workers = u32::try_from(self.all_workers() / self.models).unwrap_or(u32::MAX);
        let replicas = Replicas { min: workers, max: workers };
        ModelSpec { replicas, ..ModelSpec::new(ModelReference::Mock("tokens=100,interval=20ms".to_owned())) }
    }
}

pub(super) fn hive_name(number: usize) -> HiveName {
    HiveName::from_lossy(&format!("hive-{number:04}"))
}

pub(super) fn model_name(number: usize) -> ModelName {
    ModelName::from_lossy(&format!("model-{number:04}"))
}
