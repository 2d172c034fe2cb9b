//! One trace across processes: the context that messages carry in their headers, the spans of each process that belong to
//! it, and their way to a collector where somebody wants them there.
//!
//! A context is handed on whether or not anything is exported, so that a trace that others have begun goes through.

mod context;
mod export;
mod headers;
mod span;
mod state;

pub use context::{TRACEPARENT, TRACEPARENT_VARIABLE, TRACESTATE, TRACESTATE_VARIABLE, TraceContext};
pub use export::{ExportError, Exporter};
pub(crate) use headers::{trace, trace_of_job, within};
pub use span::{STEPS, continue_trace, start_trace};
