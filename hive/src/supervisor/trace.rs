//! The first start of a worker, in the trace of whoever wanted it. Later ones are the hive's own doing, each in a trace of
//! its own.

use rbee_nats::trace::{STEPS, TRACEPARENT_VARIABLE, TRACESTATE_VARIABLE, TraceContext};
use rbee_schema::{HiveName, ModelName, WorkerName};
use tracing::{Span, debug, info, info_span};

use crate::decide::worker::Event;

/// A worker that is to be ready for the first time.
pub(super) struct Spawning {
    span: Span,
    /// What its process is handed.
    trace: TraceContext,
}

impl Spawning {
    pub(super) fn begin(hive: &HiveName, worker: &WorkerName, model: &ModelName, asked: Option<TraceContext>) -> Self {
        let asked = asked.unwrap_or_else(TraceContext::random);
        let span = info_span!(parent: None, "spawn", %worker, %model, %hive, trace = asked.id());
        let trace = rbee_nats::trace::continue_trace(&span, &asked);
        span.in_scope(|| info!("a worker is wanted"));
        Self { span, trace }
    }

    /// Its port is leased and its process runs.
    pub(super) fn runs(&self, port: u16, pid: u32) {
        debug!(target: STEPS, parent: &self.span, port, pid, "leased a port and started the process");
    }

    /// It is ready, or will not be: the span ends.
    pub(super) fn ends(self, how: &str) {
        debug!(target: STEPS, parent: &self.span, "{how}");
    }
}

/// How a start ends with this, where it does.
pub(super) fn end(event: &Event) -> Option<String> {
    match event {
        Event::Ready { .. } => Some("ready".to_owned()),
        Event::NotStarted(failure) => Some(format!("not started: {failure}")),
        Event::Exited(_) => Some("exited before it was ready".to_owned()),
        Event::Started { .. }
        | Event::Loading { .. }
        | Event::Beat { .. }
        | Event::Health { .. }
        | Event::Frozen
        | Event::Stop { .. }
        | Event::Reset
        | Event::DeadlinePassed
        | Event::WasDeaf => None,
    }
}

/// The variables that hand the trace on, whatever the hive itself was started in.
pub(super) fn variables(spawning: Option<&Spawning>) -> [(&'static str, String); 2] {
    let trace = spawning.map_or_else(TraceContext::random, |spawning| spawning.trace.clone());
    let state = trace.state().unwrap_or_default().to_owned();
    [(TRACEPARENT_VARIABLE, trace.to_string()), (TRACESTATE_VARIABLE, state)]
}
