//! Spans of this process that belong to a trace of several.

use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::TraceContext;

/// The target of steps within a span: a collector gets them, log lines say them only to who asks for `debug`.
pub const STEPS: &str = "rbee_trace";

/// Makes a span that was not entered yet follow on what `trace` says, and returns what is to be handed on: the span itself,
/// or `trace` where nothing is exported.
pub fn continue_trace(span: &Span, trace: &TraceContext) -> TraceContext {
    let (id, parent, flags) = trace.parts();
    let state = trace.state().and_then(|state| state.parse::<TraceState>().ok()).unwrap_or_default();
    let parent = SpanContext::new(TraceId::from(id), SpanId::from(parent), TraceFlags::new(flags), true, state);
    // It fails where nothing is exported, and then there is nothing to follow on.
    let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    start_trace(span, trace)
}

/// Lets a span that was not entered yet begin a trace, and returns what is to be handed on: the span itself, or `otherwise`
/// where nothing is exported.
pub fn start_trace(span: &Span, otherwise: &TraceContext) -> TraceContext {
    let context = span.context();
    let context = context.span().span_context().clone();
    let (trace, parent) = (context.trace_id().to_bytes(), context.span_id().to_bytes());
    let flags = context.trace_flags().to_u8();
    let ours = TraceContext::from_parts(u128::from_be_bytes(trace), u64::from_be_bytes(parent), flags);
    let state = otherwise.state().unwrap_or_default();
    ours.map_or_else(|| otherwise.clone(), |ours| ours.with_state(state))
}
