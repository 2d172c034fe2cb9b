//! The trace that a message belongs to, in its headers.

use async_nats::HeaderMap;
use rbee_schema::{JobId, Tenant};
use rbee_trace::{TRACEPARENT, TraceContext};

use crate::Namespace;

/// The context that the headers hold. Some clients write the name in capitals; where there are two, nobody knows which one
/// was meant.
pub(crate) fn trace(headers: Option<&HeaderMap>) -> Option<TraceContext> {
    let is_ours = |name: &str| name.eq_ignore_ascii_case(TRACEPARENT);
    let mut values = headers?.iter().filter(|(name, _)| is_ours(name.as_ref())).flat_map(|(_, values)| values);
    let (only, None) = (values.next()?, values.next()) else { return None };
    TraceContext::read(Some(only.as_str()))
}

/// The trace of a job that came without one: the same for whoever asks.
pub(crate) fn trace_of_job(namespace: &Namespace, tenant: &Tenant, job: &JobId) -> TraceContext {
    TraceContext::of(&format!("{namespace}/{tenant}/{job}"))
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
}
