//! Lifecycle events, published on `rbee.evt.>` and kept in the stream `events`.
//!
//! The subject names the source: `rbee.evt.worker.<hive>.<worker>.<event>`. The body holds the rest; its `event` field
//! repeats the last token of the subject, so that a document can be read on its own. The time of an event is the time at
//! which the broker stored it. Events are named in the past tense. Readers skip events that they do not know.

mod alert;
mod audit;
mod exit;
mod family;
mod hive;
mod job;
mod model;
mod names;
mod port;
mod queen;
mod tenant;
mod worker;

pub use self::{
    alert::{AlertEvent, AlertKind},
    audit::AuditEvent,
    exit::ExitClass,
    family::Event,
    hive::HiveEvent,
    job::{JobBlame, JobEvent},
    model::ModelEvent,
    port::PortEvent,
    queen::QueenEvent,
    tenant::TenantEvent,
    worker::WorkerEvent,
};
