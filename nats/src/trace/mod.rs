//! Distributed tracing: the trace context in message headers, the spans of each process, and their export to a collector.
//!
//! The context is passed on even if nothing is exported, so that a trace of a client continues through the fleet.

mod context;
mod export;
mod headers;
mod span;
mod state;

pub use context::{TRACEPARENT, TRACEPARENT_VARIABLE, TRACESTATE, TRACESTATE_VARIABLE, TraceContext};
pub use export::{ExportError, Exporter};
pub(crate) use headers::{trace, trace_of_job, with_trace};
pub use span::{STEPS, continue_trace, start_trace};
