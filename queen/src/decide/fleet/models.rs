//! Model declarations.

use rbee_schema::{Failure, ModelName, ModelSpec};

use super::Fleet;

impl Fleet {
    /// A model was declared or its declaration was changed. Returns the declaration before.
    pub fn model_declared(&mut self, model: ModelName, spec: ModelSpec) -> Option<ModelSpec> {
        self.dirty.mark_model(&model);
        self.dirty.mark_room();
        self.backoffs.forget_model(&model);
        self.models.refused.remove(&model);
        self.models.declared.insert(model, spec)
    }

    /// The declaration of a model was withdrawn.
    pub fn model_withdrawn(&mut self, model: &ModelName) {
        self.dirty.mark_model(model);
        self.dirty.mark_room();
        self.models.declared.remove(model);
        self.models.refused.remove(model);
        self.jobs.demand.remove(model);
        self.jobs.queues.remove(model);
        self.backoffs.forget_model(model);
    }

    /// The entry of a model is no valid declaration and has no effect. Returns true if that should be reported: it was not
    /// refused for the same reason before, and the limit of refused declarations is not reached.
    pub fn declaration_refused(&mut self, model: ModelName, failure: Failure) -> bool {
        if self.models.refused.get(&model) == Some(&failure) {
            return false;
        }
        self.model_withdrawn(&model);
        let has_room = self.models.refused.len() < self.limits.refused as usize;
        if has_room {
            self.models.refused.insert(model, failure);
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use rbee_schema::FailureCode;

    use super::*;
    use crate::decide::fixture::name;

    #[test]
    fn refused_declarations_are_remembered_up_to_the_limit() {
        let mut fleet = Fleet::default();
        fleet.limits.refused = 2;
        let failure = || Failure::new(FailureCode::InvalidRequest, "no declaration");
        let reported = ["a", "b", "c", "a"].map(|model| fleet.declaration_refused(name(model), failure()));
        assert_eq!((reported, fleet.refused_models().len()), ([true, true, false, false], 2));
    }
}
