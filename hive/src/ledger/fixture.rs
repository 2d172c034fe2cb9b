//! An entry for tests.

use rbee_schema::{ModelReference, ModelSpec, PortLease, WorkerPhase, WorkerRecord};

use super::LedgerEntry;

pub(super) fn entry() -> LedgerEntry {
    let spec = ModelSpec::new(ModelReference::Mock(String::new()));
    let record = WorkerRecord {
        model: "m".parse().expect("a name"),
        phase: WorkerPhase::Ready,
        epoch: 3,
        pid: Some(42),
        port: Some(8080),
        slots: 2,
        exits: 1,
        limits: None,
        failure: None,
        spec: None,
    };
    let lease = PortLease { hive: "h".parse().expect("a name"), hive_epoch: 1, worker: "w".parse().expect("a name") };
    LedgerEntry { model: record.model.clone(), spec, record, stop_reason: None, process: None, lease }
}
