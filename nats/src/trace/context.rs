//! Trace context: the position of a message or process in a trace, by W3C Trace Context (<https://www.w3.org/TR/trace-context/>).
//!
//! OpenTelemetry's `TraceContextPropagator` is not used for parsing. It accepts ids and flags of the wrong length and a leading
//! `+`, it drops the flag for random trace ids, and it cannot tell a repeated header from a single one.

use std::{
    env, fmt,
    num::{NonZeroU64, NonZeroU128},
    str::FromStr,
};

use opentelemetry_sdk::trace::{IdGenerator as _, RandomIdGenerator};
use sha2::{Digest as _, Sha256};

use super::state;

/// Header that holds a trace context, in messages and HTTP requests.
pub const TRACEPARENT: &str = "traceparent";

/// Header that holds data of other tracing systems.
pub const TRACESTATE: &str = "tracestate";

/// Environment variable that holds the trace context in which a process was started.
pub const TRACEPARENT_VARIABLE: &str = "TRACEPARENT";

/// Environment variable that holds data of other tracing systems.
pub const TRACESTATE_VARIABLE: &str = "TRACESTATE";

/// Defined flags: sampled, and random trace id. Other flags are not passed on.
const KNOWN_FLAGS: u8 = 0b11;

const SAMPLED: u8 = 0b01;

/// Trace context: a trace and the parent span in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    trace: NonZeroU128,
    parent: NonZeroU64,
    flags: u8,
    /// Data of other tracing systems, usually empty.
    state: String,
}

/// Text that is not a valid `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected `00-TRACE-PARENT-FLAGS` with 32, 16 and 2 lower-case hexadecimal digits, and neither id all zero")]
pub struct InvalidTraceparent;

impl TraceContext {
    /// New trace with random ids.
    pub fn random() -> Self {
        let ids = RandomIdGenerator::default();
        let (trace, parent) = (ids.new_trace_id().to_bytes(), ids.new_span_id().to_bytes());
        Self::from_bits(u128::from_be_bytes(trace), u64::from_be_bytes(parent))
    }

    /// Trace derived from a name. The same name always gives the same trace.
    pub fn from_name(name: &str) -> Self {
        let digest = Sha256::digest(name.as_bytes());
        let bits = |bytes: &[u8]| bytes.iter().fold(0_u128, |bits, byte| (bits << 8) | u128::from(*byte));
        let parent = bits(&digest[16..24]);
        Self::from_bits(bits(&digest[..16]), u64::try_from(parent).unwrap_or(u64::MAX))
    }

    /// Parses a header. `None` if there is no header or it is malformed.
    pub fn read(header: Option<&str>) -> Option<Self> {
        header?.parse().ok()
    }

    /// This context with the data of a `tracestate` header. A malformed header is ignored.
    #[must_use]
    pub fn with_state(self, tracestate: &str) -> Self {
        Self { state: state::read(tracestate), ..self }
    }

    /// Trace context in which this process was started, from its environment.
    pub fn from_env() -> Option<Self> {
        let context = Self::read(env::var(TRACEPARENT_VARIABLE).ok().as_deref())?;
        Some(context.with_state(&env::var(TRACESTATE_VARIABLE).unwrap_or_default()))
    }

    /// Value of the `tracestate` header to pass on, if any.
    pub fn state(&self) -> Option<&str> {
        Some(self.state.as_str()).filter(|state| !state.is_empty())
    }

    /// Id of the trace, for log lines.
    pub fn id(&self) -> String {
        format!("{:032x}", self.trace)
    }

    /// Trace id, span id and flags.
    pub(crate) fn parts(&self) -> (u128, u64, u8) {
        (self.trace.get(), self.parent.get(), self.flags)
    }

    pub(crate) fn from_parts(trace: u128, parent: u64, flags: u8) -> Option<Self> {
        let (trace, parent) = (NonZeroU128::new(trace)?, NonZeroU64::new(parent)?);
        Some(Self { trace, parent, flags: flags & KNOWN_FLAGS, state: String::new() })
    }

    /// Context from random or hashed ids. A zero id is invalid and practically impossible; 1 replaces it.
    fn from_bits(trace: u128, parent: u64) -> Self {
        let (trace, parent) =
            (NonZeroU128::new(trace).unwrap_or(NonZeroU128::MIN), NonZeroU64::new(parent).unwrap_or(NonZeroU64::MIN));
        Self { trace, parent, flags: SAMPLED, state: String::new() }
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.parent, self.flags)
    }
}

impl FromStr for TraceContext {
    type Err = InvalidTraceparent;

    /// Parses `VERSION-TRACE-PARENT-FLAGS`. A later version may append fields, which are ignored.
    fn from_str(text: &str) -> Result<Self, InvalidTraceparent> {
        let mut parts = text.trim().split('-');
        let mut next = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits)?;
            let is_hex = part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            if is_hex { u128::from_str_radix(part, 16).ok() } else { None }
        };
        let read = (next(2), next(32), next(16), next(2));
        let (Some(version), Some(trace), Some(parent), Some(flags)) = read else { return Err(InvalidTraceparent) };
        if version == 0xff || (version == 0 && parts.next().is_some()) {
            return Err(InvalidTraceparent);
        }
        let parent = u64::try_from(parent).map_err(|_| InvalidTraceparent)?;
        let flags = u8::try_from(flags).map_err(|_| InvalidTraceparent)?;
        Self::from_parts(trace, parent, flags).ok_or(InvalidTraceparent)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_context_is_written_as_it_was_parsed() {
        let context: TraceContext = EXAMPLE.parse().expect("the example of the recommendation");
        assert_eq!(context.to_string(), EXAMPLE);
        assert_eq!(context.id(), "4bf92f3577b34da6a3ce929d0e0e4736");
    }

    #[test]
    fn tracestate_is_kept() {
        let context: TraceContext = EXAMPLE.parse().expect("the example of the recommendation");
        assert_eq!(context.state(), None);
        let with_state = context.clone().with_state("rojo=00f067aa0ba902b7, congo=t61rcWkgMzE");
        assert_eq!(
            (with_state.to_string().as_str(), with_state.state()),
            (EXAMPLE, Some("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"))
        );
        assert_eq!(with_state.with_state("malformed"), context);
    }

    #[test]
    fn a_later_version_may_have_more_fields() {
        let later = format!("cc{}-what-the-future-will-be-like", &EXAMPLE[2..]);
        assert_eq!(TraceContext::read(Some(&later)).expect("readable").to_string(), EXAMPLE);
        let unknown_flags = format!("{}ff", &EXAMPLE[..53]);
        assert_eq!(
            TraceContext::read(Some(&unknown_flags)).expect("readable").to_string(),
            format!("{}03", &EXAMPLE[..53])
        );
    }

    #[test]
    fn a_malformed_header_is_not_a_context() {
        for wrong in [
            "",
            "-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::read(Some(wrong)), None, "{wrong}");
        }
        assert_eq!(TraceContext::read(None), None);
    }

    #[test]
    fn different_names_have_different_traces() {
        assert_eq!(TraceContext::from_name("rbee/default/a"), TraceContext::from_name("rbee/default/a"));
        assert_ne!(TraceContext::from_name("rbee/default/a").id(), TraceContext::from_name("rbee/default/b").id());
        assert_ne!(TraceContext::random().id(), TraceContext::random().id());
    }

    proptest! {
        #[test]
        fn every_context_is_parsed_as_it_was_written(trace in 1_u128.., parent in 1_u64.., flags in 0_u8..4) {
            let context = TraceContext::from_parts(trace, parent, flags).expect("neither is zero");
            prop_assert_eq!(context.to_string().parse(), Ok(context));
        }

        #[test]
        fn any_text_is_parsed_without_panic(text in "\\PC{0,80}") {
            if let Some(context) = TraceContext::read(Some(&text)) {
                prop_assert_eq!(context.to_string().parse(), Ok(context));
            }
        }
    }
}
