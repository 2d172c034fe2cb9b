//! Seals of the trail of events, on `rbee.evt.audit.<event>`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::event_names;

/// What is told about the trail itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum AuditEvent {
    /// Events are sealed: whoever changes, adds or removes one of them breaks the seal.
    Sealed {
        /// The first sequence in the stream that is sealed.
        first: u64,
        /// The last.
        last: u64,
        /// How many events there are between them.
        events: u64,
        /// The hash of the seal before, in hexadecimal; empty for the first of all.
        previous: String,
        /// SHA-256, in hexadecimal, of that hash and then of each event: its sequence and its time in nanoseconds since
        /// 1970 (both as 8 bytes, the highest first), and its subject and its body, each after its length (8 bytes).
        hash: String,
    },
}

event_names!(AuditEvent {
    Sealed => "sealed",
});
