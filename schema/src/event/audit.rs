//! Seals of the audit trail, on `rbee.evt.audit.<event>`. A seal makes later changes to the event stream detectable.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::names::event_names;

/// Event about the audit trail itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum AuditEvent {
    /// A range of events was sealed. Changing, adding or removing one of them later breaks the seal.
    Sealed {
        /// Stream sequence of the first sealed event.
        first: u64,
        /// Stream sequence of the last sealed event.
        last: u64,
        /// Number of sealed events.
        events: u64,
        /// Hash of the previous seal, in hexadecimal. Empty for the first seal.
        previous: String,
        /// SHA-256 in hexadecimal. Its input is `previous`, and then for each event: its stream sequence and its time in
        /// nanoseconds since 1970 (8 bytes each, big-endian), its subject and its body (each preceded by its length as 8
        /// bytes, big-endian).
        hash: String,
    },
}

event_names!(AuditEvent {
    Sealed => "sealed",
});
