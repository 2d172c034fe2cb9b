//! The trace that a message belongs to, in its headers.

use crate::trace::{TRACEPARENT, TRACESTATE, TraceContext};
use async_nats::{HeaderMap, jetstream::message::PublishMessage};
use rbee_schema::{JobId, Tenant};

use crate::Namespace;

/// The context that the headers hold. Some clients write the names in capitals; where there are two, nobody knows which one
/// was meant. What others have written beside it may stand in several headers, one after the other.
pub(crate) fn trace(headers: Option<&HeaderMap>) -> Option<TraceContext> {
    let named = |wanted: &'static str| {
        let is_it = move |name: &str| name.eq_ignore_ascii_case(wanted);
        headers
            .into_iter()
            .flat_map(HeaderMap::iter)
            .filter(move |(name, _)| is_it(name.as_ref()))
            .flat_map(|(_, it)| it)
    };
    let mut parents = named(TRACEPARENT);
    let (only, None) = (parents.next()?, parents.next()) else { return None };
    let beside: Vec<&str> = named(TRACESTATE).map(|value| value.as_str()).collect();
    Some(TraceContext::read(Some(only.as_str()))?.with_state(&beside.join(",")))
}

/// The headers of a message that belongs to a trace.
pub(crate) fn headers(trace: &TraceContext) -> impl Iterator<Item = (&'static str, String)> {
    let beside = trace.state().map(|state| (TRACESTATE, state.to_owned()));
    std::iter::once((TRACEPARENT, trace.to_string())).chain(beside)
}

/// A message that belongs to a trace.
pub(crate) fn within(trace: &TraceContext, message: PublishMessage) -> PublishMessage {
    headers(trace).fold(message, |message, (name, value)| message.header(name, value.as_str()))
}

/// The trace of a job that came without one: the same for whoever asks.
pub(crate) fn trace_of_job(namespace: &Namespace, tenant: &Tenant, job: &JobId) -> TraceContext {
    TraceContext::from_name(&format!("{namespace}/{tenant}/{job}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_found_however_it_is_written_and_only_where_it_is_one() {
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
    fn what_others_have_written_is_found_in_all_of_its_headers_and_handed_on() {
        let mut found = HeaderMap::new();
        found.insert("Tracestate", "a=1,b=2");
        assert_eq!(trace(Some(&found)), None, "beside nothing");
        found.insert("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        found.append("Tracestate", "c=3");
        let read = trace(Some(&found)).expect("a context");
        assert_eq!(read.state(), Some("a=1,b=2,c=3"));
        let mut written = HeaderMap::new();
        headers(&read).for_each(|(name, value)| written.insert(name, value.as_str()));
        assert_eq!(trace(Some(&written)), Some(read));
    }
}
