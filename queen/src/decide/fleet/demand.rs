//! Models that are declared, and the jobs that wait for them.

use std::time::Instant;

use rbee_schema::{Failure, ModelName, ModelSpec, WorkerPhase};

use super::Fleet;

impl Fleet {
    /// A model is declared, or declared anew. Returns how it was declared before.
    pub fn model_is(&mut self, model: ModelName, spec: ModelSpec) -> Option<ModelSpec> {
        self.touched.model(&model);
        self.touched.room();
        self.held.forget_model(&model);
        self.refused.remove(&model);
        self.models.insert(model, spec)
    }

    /// A model is no longer declared.
    pub fn model_is_gone(&mut self, model: &ModelName) {
        self.touched.model(model);
        self.touched.room();
        self.models.remove(model);
        self.refused.remove(model);
        self.demand.remove(model);
        self.queues.remove(model);
        self.held.forget_model(model);
    }

    /// What stands in the bucket is no declaration: it has no effect. Returns whether that is worth telling: it was not
    /// refused for the same reason before, and not too many others are.
    pub fn model_is_refused(&mut self, model: ModelName, failure: Failure) -> bool {
        if self.refused.get(&model) == Some(&failure) {
            return false;
        }
        self.model_is_gone(&model);
        let is_remembered = self.refused.len() < self.bounds.refused as usize;
        if is_remembered {
            self.refused.insert(model, failure);
        }
        is_remembered
    }

    /// Somebody asks for a model: a job was queued.
    pub fn job_waits(&mut self, model: &ModelName, now: Instant) {
        self.touched.model(model);
        // While somebody waits already, the hives are tried one after the other, each of them once.
        if !self.demand.contains_key(model) {
            self.held.asked_again(model);
        }
        self.queues.entry(model.clone()).or_default().queued(now);
        self.is_demanded(model, now);
    }

    /// So many jobs of a model were found in the queue, waiting or running.
    pub fn jobs_found(&mut self, model: &ModelName, depth: u64, now: Instant) {
        let waiting = if depth == 0 { 0 } else { depth.saturating_sub(self.running(model)) };
        let queue = self.queues.entry(model.clone()).or_default();
        if depth > 0 || queue.waiting() != waiting {
            self.touched.model(model);
        }
        if waiting < queue.waiting() {
            self.touched.room();
        }
        queue.counted(waiting, now);
        if depth > 0 {
            self.is_demanded(model, now);
        }
    }

    /// Where a worker is ready it takes the jobs; else they are a demand.
    fn is_demanded(&mut self, model: &ModelName, now: Instant) {
        let is_served = self.serving(model).any(|(_, worker)| worker.record.phase == WorkerPhase::Ready);
        if !is_served {
            self.demand.entry(model.clone()).or_insert(now);
        }
    }

    /// The jobs that waited for a model were answered otherwise.
    pub fn demand_is_over(&mut self, model: &ModelName) {
        self.touched.model(model);
        self.touched.room();
        self.demand.remove(model);
        self.queues.remove(model);
    }

    /// How many jobs of a model run, as far as is known.
    pub fn running(&self, model: &ModelName) -> u64 {
        self.workers_for(model).map(|(_, worker)| worker.jobs.len() as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use rbee_schema::FailureCode;

    use super::*;
    use crate::decide::fixture::name;

    #[test]
    fn no_more_refused_declarations_are_remembered_than_the_bound_says() {
        let mut fleet = Fleet::default();
        fleet.bounds.refused = 2;
        let failure = || Failure::new(FailureCode::InvalidRequest, "no declaration");
        let told = ["a", "b", "c", "a"].map(|model| fleet.model_is_refused(name(model), failure()));
        assert_eq!((told, fleet.refused.len()), ([true, true, false, false], 2));
    }
}
