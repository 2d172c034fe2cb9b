//! Trace of a spawn: that of the job that has waited longest for the model.

use std::collections::BTreeMap;

use rbee_nats::trace::TraceContext;
use rbee_schema::{HiveName, ModelName, WorkerName};
use tracing::{Span, info_span};

use crate::decide::fleet::Fleet;

/// Trace of the oldest waiting job of each model, from the notices that arrived.
#[derive(Debug, Default)]
pub(super) struct Traces {
    oldest: BTreeMap<ModelName, TraceContext>,
}

impl Traces {
    /// A job was queued. `fleet` does not count it yet.
    pub(super) fn job_queued(&mut self, fleet: &Fleet, model: &ModelName, trace: Option<TraceContext>) {
        let Some(trace) = trace else { return };
        if fleet.waiting(model) > 0 {
            self.oldest.entry(model.clone()).or_insert(trace);
        } else {
            self.oldest.retain(|other, _| fleet.models().contains_key(other));
            self.oldest.insert(model.clone(), trace);
        }
    }

    /// Span of a spawn, and the trace context of its command. A spawn that no job has asked for begins a trace.
    pub(super) fn place(
        &self,
        fleet: &Fleet,
        model: &ModelName,
        hive: &HiveName,
        worker: &WorkerName,
    ) -> (Span, TraceContext) {
        let oldest = self.oldest.get(model).filter(|_| fleet.waiting(model) > 0);
        let trace = oldest.cloned().unwrap_or_else(TraceContext::random);
        let span = info_span!(parent: None, "place", %model, %hive, %worker, trace = trace.id());
        let trace = rbee_nats::trace::continue_trace(&span, &trace);
        (span, trace)
    }
}
