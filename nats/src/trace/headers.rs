//! The trace context in the headers of messages.

use crate::trace::{TRACEPARENT, TRACESTATE, TraceContext};
use async_nats::{HeaderMap, jetstream::message::PublishMessage};
use rbee_schema::{JobId, Tenant};

use crate::Namespace;

/// Trace context of a message. Header names are matched in any case, because some clients capitalize them. With two
/// `traceparent` headers there is no context, because it is unclear which one is meant. `tracestate` may have several headers,
/// whose values are joined in order.
pub(crate) fn trace(headers: Option<&HeaderMap>) -> Option<TraceContext> {
    let named = |expected: &'static str| {
        let is_it = move |name: &str| name.eq_ignore_ascii_case(expected);
        headers
            .into_iter()
            .flat_map(HeaderMap::iter)
            .filter(move |(name, _)| is_it(name.as_ref()))
            .flat_map(|(_, it)| it)
    };
    let mut parents = named(TRACEPARENT);
    let (only, None) = (parents.next()?, parents.next()) else { return None };
    let states: Vec<&str> = named(TRACESTATE).map(|value| value.as_str()).collect();
    Some(TraceContext::read(Some(only.as_str()))?.with_state(&states.join(",")))
}

/// Headers that carry a trace context.
pub(crate) fn headers(trace: &TraceContext) -> impl Iterator<Item = (&'static str, String)> {
    let state = trace.state().map(|state| (TRACESTATE, state.to_owned()));
    std::iter::once((TRACEPARENT, trace.to_string())).chain(state)
}

/// Adds a trace context to a message.
pub(crate) fn with_trace(trace: &TraceContext, message: PublishMessage) -> PublishMessage {
    headers(trace).fold(message, |message, (name, value)| message.header(name, value.as_str()))
}

/// Trace of a job that was published without one. It is derived from the job's id, so that every role gets the same.
pub(crate) fn trace_of_job(namespace: &Namespace, tenant: &Tenant, job: &JobId) -> TraceContext {
    TraceContext::from_name(&format!("{namespace}/{tenant}/{job}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_traceparent_header_is_found_in_any_case() {
        let written = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for name in ["traceparent", "Traceparent", "TRACEPARENT"] {
            let mut headers = HeaderMap::new();
            headers.insert(name, written);
            assert_eq!(trace(Some(&headers)).expect(name).to_string(), written);
            headers.append(name, written);
            assert_eq!(trace(Some(&headers)), None, "twice");
            headers.insert(name, "malformed");
            assert_eq!(trace(Some(&headers)), None);
        }
        assert_eq!(trace(Some(&HeaderMap::new())), None);
        assert_eq!(trace(None), None);
    }

    #[test]
    fn tracestate_headers_are_joined_and_passed_on() {
        let mut found = HeaderMap::new();
        found.insert("Tracestate", "a=1,b=2");
        assert_eq!(trace(Some(&found)), None, "without traceparent");
        found.insert("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        found.append("Tracestate", "c=3");
        let read = trace(Some(&found)).expect("a context");
        assert_eq!(read.state(), Some("a=1,b=2,c=3"));
        let mut written = HeaderMap::new();
        headers(&read).for_each(|(name, value)| written.insert(name, value.as_str()));
        assert_eq!(trace(Some(&written)), Some(read));
    }
}
