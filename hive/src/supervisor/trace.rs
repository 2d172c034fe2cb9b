//! The span of a worker's first start, in the trace of the command that requested the worker. A restart is the hive's own decision
//! and begins a trace of its own.

use rbee_nats::trace::{STEPS, TRACEPARENT_VARIABLE, TRACESTATE_VARIABLE, TraceContext};
use rbee_schema::{HiveName, ModelName, WorkerName};
use tracing::{Span, debug, info, info_span};

use crate::decide::worker::Event;

/// Span from the command to start a worker until it is ready or has failed.
pub(super) struct SpawnSpan {
    span: Span,
    /// Trace context for the worker process.
    trace: TraceContext,
}

impl SpawnSpan {
    /// Begins the span in the trace `parent`, or in a new one.
    pub(super) fn begin(hive: &HiveName, worker: &WorkerName, model: &ModelName, parent: Option<TraceContext>) -> Self {
        let parent = parent.unwrap_or_else(TraceContext::random);
        let span = info_span!(parent: None, "spawn", %worker, %model, %hive, trace = parent.id());
        let trace = rbee_nats::trace::continue_trace(&span, &parent);
        span.in_scope(|| info!("starting a worker"));
        Self { span, trace }
    }

    /// Notes that the port is leased and the process runs.
    pub(super) fn started(&self, port: u16, pid: u32) {
        debug!(target: STEPS, parent: &self.span, port, pid, "leased a port and started the process");
    }

    pub(super) fn end(self, outcome: &str) {
        debug!(target: STEPS, parent: &self.span, "{outcome}");
    }
}

/// Outcome of a start, where `event` ends it.
pub(super) fn outcome(event: &Event) -> Option<String> {
    match event {
        Event::Ready { .. } => Some("ready".to_owned()),
        Event::NotStarted(failure) => Some(format!("not started: {failure}")),
        Event::Exited(_) => Some("exited before it was ready".to_owned()),
        Event::Started { .. }
        | Event::Loading { .. }
        | Event::Heartbeat { .. }
        | Event::Health { .. }
        | Event::Frozen
        | Event::Stop { .. }
        | Event::Reset
        | Event::DeadlinePassed
        | Event::ObservationGap => None,
    }
}

/// Environment variables that pass the trace to a worker process. They are always set: the hive's own are not meant for it.
pub(super) fn variables(span: Option<&SpawnSpan>) -> [(&'static str, String); 2] {
    let trace = span.map_or_else(TraceContext::random, |span| span.trace.clone());
    let state = trace.state().unwrap_or_default().to_owned();
    [(TRACEPARENT_VARIABLE, trace.to_string()), (TRACESTATE_VARIABLE, state)]
}
