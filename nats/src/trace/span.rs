//! Spans of this process within a distributed trace.

use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::TraceContext;

/// Target of spans for steps within a larger span. They are exported to a collector, and logged only at level `debug`.
pub const STEPS: &str = "rbee_trace";

/// Makes a span, which must not be entered yet, a child of `trace`. Returns the context to pass on: that of the span, or `trace`
/// if nothing is exported.
pub fn continue_trace(span: &Span, trace: &TraceContext) -> TraceContext {
    let (id, parent, flags) = trace.parts();
    let state = trace.state().and_then(|state| state.parse::<TraceState>().ok()).unwrap_or_default();
    let parent = SpanContext::new(TraceId::from(id), SpanId::from(parent), TraceFlags::new(flags), true, state);
    // It fails if nothing is exported, and then the span needs no parent.
    let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    start_trace(span, trace)
}

/// Starts a trace with a span, which must not be entered yet. Returns the context to pass on: that of the span, or `fallback` if
/// nothing is exported.
pub fn start_trace(span: &Span, fallback: &TraceContext) -> TraceContext {
    let context = span.context();
    let context = context.span().span_context().clone();
    let (trace, parent) = (context.trace_id().to_bytes(), context.span_id().to_bytes());
    let flags = context.trace_flags().to_u8();
    let ours = TraceContext::from_parts(u128::from_be_bytes(trace), u64::from_be_bytes(parent), flags);
    let state = fallback.state().unwrap_or_default();
    ours.map_or_else(|| fallback.clone(), |ours| ours.with_state(state))
}
