//! Whose trace an order belongs to: that of the job that has waited longest for the model.

use std::collections::BTreeMap;

use rbee_nats::trace::TraceContext;
use rbee_schema::{HiveName, ModelName, WorkerName};
use tracing::{Span, info_span};

use crate::decide::fleet::Fleet;

/// The trace of the oldest job that waits for each model, as far as its notice was heard.
#[derive(Debug, Default)]
pub(super) struct Traces {
    oldest: BTreeMap<ModelName, TraceContext>,
}

impl Traces {
    /// A job comes; those that waited before it are counted already.
    pub(super) fn job_waits(&mut self, fleet: &Fleet, model: &ModelName, trace: Option<TraceContext>) {
        let Some(trace) = trace else { return };
        if waits(fleet, model) {
            self.oldest.entry(model.clone()).or_insert(trace);
        } else {
            self.oldest.retain(|other, _| fleet.models.contains_key(other));
            self.oldest.insert(model.clone(), trace);
        }
    }

    /// The span of an order, and what its command is to carry. What no job has asked for begins a trace.
    pub(super) fn place(
        &self,
        fleet: &Fleet,
        model: &ModelName,
        hive: &HiveName,
        worker: &WorkerName,
    ) -> (Span, TraceContext) {
        let asked = self.oldest.get(model).filter(|_| waits(fleet, model));
        let trace = asked.cloned().unwrap_or_else(TraceContext::random);
        let span = info_span!(parent: None, "place", %model, %hive, %worker, trace = trace.id());
        let trace = rbee_nats::trace::continue_trace(&span, &trace);
        (span, trace)
    }
}

fn waits(fleet: &Fleet, model: &ModelName) -> bool {
    fleet.queues.get(model).is_some_and(|queue| queue.waiting() > 0)
}
