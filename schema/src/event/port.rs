//! Events of ports, on `rbee.evt.port.<hive>.<port>.<event>`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::names::event_names;
use crate::WorkerName;

/// Event of a port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum PortEvent {
    /// The hive leased and bound the port.
    Leased {
        /// Worker that will listen on the port.
        worker: WorkerName,
        /// Ports that the hive holds now.
        in_use: u32,
        /// Reason for choosing this port, in plain text.
        why: String,
    },
    /// The hive released the port.
    Released {
        /// Worker that held the port.
        worker: WorkerName,
        /// Ports that the hive holds now.
        in_use: u32,
        /// Reason in plain text.
        why: String,
    },
    /// The port was leased and no worker used it. The hive took the lease back.
    Reclaimed {
        /// Worker that the port was leased for.
        worker: WorkerName,
        /// Ports that the hive holds now.
        in_use: u32,
        /// Reason in plain text.
        why: String,
    },
    /// The hive looked for a port and skipped this one.
    Skipped {
        /// Worker that needed a port.
        worker: WorkerName,
        /// Reason in plain text.
        why: String,
    },
}

event_names!(PortEvent {
    Leased => "leased",
    Released => "released",
    Reclaimed => "reclaimed",
    Skipped => "skipped",
});
