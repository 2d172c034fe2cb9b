//! One type for every event, with the names that its subject carries.

use super::{AlertEvent, AlertKind, HiveEvent, JobEvent, ModelEvent, PortEvent, QueenEvent, TenantEvent, WorkerEvent};
use crate::{HiveName, JobId, ModelName, QueenName, Tenant, WorkerName};

/// An event of any family, with the names that stand in its subject. `rbee_nats::Subject` writes and parses the subject.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Event of a queen.
    Queen(QueenName, QueenEvent),
    /// Event of a hive.
    Hive(HiveName, HiveEvent),
    /// Event of a worker of a hive.
    Worker(HiveName, WorkerName, WorkerEvent),
    /// Event of a port of a hive.
    Port(HiveName, u16, PortEvent),
    /// Event of a model's declaration, as the queen sees it.
    Model(ModelName, ModelEvent),
    /// Event of a tenant, as the queen sees it.
    Tenant(Tenant, TenantEvent),
    /// Event of a job of a tenant.
    Job(Tenant, JobId, JobEvent),
    /// Alert for an operator.
    Alert(AlertKind, AlertEvent),
}
