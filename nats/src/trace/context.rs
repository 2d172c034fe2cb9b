//! Where in which trace something belongs, as W3C Trace Context writes it (<https://www.w3.org/TR/trace-context/>).

use std::{
    env, fmt,
    num::{NonZeroU64, NonZeroU128},
    str::FromStr,
};

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::state;

/// The header that holds a context, in messages and in HTTP requests.
pub const TRACEPARENT: &str = "traceparent";

/// The header beside it that holds what other tracing systems have written.
pub const TRACESTATE: &str = "tracestate";

/// The variable that holds the context in which a process was started.
pub const TRACEPARENT_VARIABLE: &str = "TRACEPARENT";

/// The variable beside it.
pub const TRACESTATE_VARIABLE: &str = "TRACESTATE";

/// The flags that are defined: sampled, and that the trace's id is random. Others are not handed on.
const KNOWN_FLAGS: u8 = 0b11;

const SAMPLED: u8 = 0b01;

/// A trace, and the span in it that comes before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    trace: NonZeroU128,
    parent: NonZeroU64,
    flags: u8,
    /// What other tracing systems have written beside it; mostly nothing.
    state: String,
}

/// A text that is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected `00-TRACE-PARENT-FLAGS` with 32, 16 and 2 lower-case hexadecimal digits, and neither id all zero")]
pub struct NoTraceparent;

impl TraceContext {
    /// A trace of its own.
    pub fn random() -> Self {
        Self::from_bits(Uuid::new_v4().as_u128(), Uuid::new_v4().as_u64_pair().1)
    }

    /// The trace of something that has a name and no context: whoever asks comes to the same.
    pub fn from_name(name: &str) -> Self {
        let digest = Sha256::digest(name.as_bytes());
        let bits = |bytes: &[u8]| bytes.iter().fold(0_u128, |bits, byte| (bits << 8) | u128::from(*byte));
        let parent = bits(&digest[16..24]);
        Self::from_bits(bits(&digest[..16]), u64::try_from(parent).unwrap_or(u64::MAX))
    }

    /// What a header holds; none where there is no such header, or it holds something else.
    pub fn read(header: Option<&str>) -> Option<Self> {
        header?.parse().ok()
    }

    /// The same context with what the header beside it holds. What is malformed is left out.
    #[must_use]
    pub fn with_state(self, tracestate: &str) -> Self {
        Self { state: state::read(tracestate), ..self }
    }

    /// The one that this process was started in.
    pub fn from_env() -> Option<Self> {
        let context = Self::read(env::var(TRACEPARENT_VARIABLE).ok().as_deref())?;
        Some(context.with_state(&env::var(TRACESTATE_VARIABLE).unwrap_or_default()))
    }

    /// What is handed on in the header beside it, where there is something.
    pub fn state(&self) -> Option<&str> {
        Some(self.state.as_str()).filter(|state| !state.is_empty())
    }

    /// The trace's id, for log lines.
    pub fn id(&self) -> String {
        format!("{:032x}", self.trace)
    }

    /// The parts: trace, span, and whether it is exported.
    pub(crate) fn parts(&self) -> (u128, u64, u8) {
        (self.trace.get(), self.parent.get(), self.flags)
    }

    pub(crate) fn from_parts(trace: u128, parent: u64, flags: u8) -> Option<Self> {
        let (trace, parent) = (NonZeroU128::new(trace)?, NonZeroU64::new(parent)?);
        Some(Self { trace, parent, flags: flags & KNOWN_FLAGS, state: String::new() })
    }

    /// Neither is ever zero in practice; where it were, one is as good a number.
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
    type Err = NoTraceparent;

    /// A later version may have more behind; what stands in front of it is the same.
    fn from_str(text: &str) -> Result<Self, NoTraceparent> {
        let mut parts = text.trim().split('-');
        let mut next = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits)?;
            let is_hex = part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            if is_hex { u128::from_str_radix(part, 16).ok() } else { None }
        };
        let read = (next(2), next(32), next(16), next(2));
        let (Some(version), Some(trace), Some(parent), Some(flags)) = read else { return Err(NoTraceparent) };
        if version == 0xff || (version == 0 && parts.next().is_some()) {
            return Err(NoTraceparent);
        }
        let parent = u64::try_from(parent).map_err(|_| NoTraceparent)?;
        let flags = u8::try_from(flags).map_err(|_| NoTraceparent)?;
        Self::from_parts(trace, parent, flags).ok_or(NoTraceparent)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_context_is_written_as_it_was_read() {
        let context: TraceContext = EXAMPLE.parse().expect("the example of the recommendation");
        assert_eq!(context.to_string(), EXAMPLE);
        assert_eq!(context.id(), "4bf92f3577b34da6a3ce929d0e0e4736");
    }

    #[test]
    fn what_others_have_written_beside_it_stays_beside_it() {
        let context: TraceContext = EXAMPLE.parse().expect("the example of the recommendation");
        assert_eq!(context.state(), None);
        let beside = context.clone().with_state("rojo=00f067aa0ba902b7, congo=t61rcWkgMzE");
        assert_eq!(
            (beside.to_string().as_str(), beside.state()),
            (EXAMPLE, Some("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"))
        );
        assert_eq!(beside.with_state("malformed"), context);
    }

    #[test]
    fn a_later_version_may_say_more() {
        let later = format!("cc{}-what-the-future-will-be-like", &EXAMPLE[2..]);
        assert_eq!(TraceContext::read(Some(&later)).expect("readable").to_string(), EXAMPLE);
        let unknown_flags = format!("{}ff", &EXAMPLE[..53]);
        assert_eq!(
            TraceContext::read(Some(&unknown_flags)).expect("readable").to_string(),
            format!("{}03", &EXAMPLE[..53])
        );
    }

    #[test]
    fn what_is_malformed_is_no_context() {
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
    fn a_name_has_one_trace_and_another_name_another() {
        assert_eq!(TraceContext::from_name("rbee/default/a"), TraceContext::from_name("rbee/default/a"));
        assert_ne!(TraceContext::from_name("rbee/default/a").id(), TraceContext::from_name("rbee/default/b").id());
        assert_ne!(TraceContext::random().id(), TraceContext::random().id());
    }

    proptest! {
        #[test]
        fn every_context_comes_back(trace in 1_u128.., parent in 1_u64.., flags in 0_u8..4) {
            let context = TraceContext::from_parts(trace, parent, flags).expect("neither is zero");
            prop_assert_eq!(context.to_string().parse(), Ok(context));
        }

        #[test]
        fn no_text_does_harm(text in "\\PC{0,80}") {
            if let Some(context) = TraceContext::read(Some(&text)) {
                prop_assert_eq!(context.to_string().parse(), Ok(context));
            }
        }
    }
}
