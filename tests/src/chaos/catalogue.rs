//! The catalogue of faults. Each has a name, which `rbee-chaos --only` takes, and a rule in `tests/it/chaos.rs`.

use super::{
    fault::Fault,
    faults::{hive, load, many, network, ports, stop, surroundings, worker},
};

/// Every fault.
pub const FAULTS: &[Fault] = &[
    worker::KILLED_IN_MID_STREAM,
    worker::FROZEN,
    worker::FROZEN_WITHOUT_NOTICE,
    worker::THAWED,
    worker::HANGS,
    worker::UNHEALTHY,
    worker::OUT_OF_MEMORY,
    worker::CRASH_LOOP,
    load::SLOW,
    load::STALLED,
    load::TRUNCATED,
    load::CORRUPT,
    ports::FOREIGN_LISTENER,
    ports::LEAKED_LEASE,
    ports::STRAY_LEASE,
    hive::KILLED,
    hive::KILLED_TEN_TIMES,
    hive::KILLED_WHILE_SPAWNING,
    hive::KILLED_AND_WORKER_TOO,
    hive::KILLED_BEFORE_THE_LEDGER,
    hive::KILLED_BEFORE_THE_SPAWN,
    hive::FROZEN,
    hive::STARTED_TWICE,
    hive::NAME_TAKEN,
    stop::IGNORES_SIGTERM,
    stop::FIFTY_OF_WHICH_FIVE_IGNORE_SIGTERM,
    many::THOUSAND_SPAWNS,
    surroundings::BUS_KILLED,
    surroundings::DISK_FULL,
    surroundings::NUMBER_REUSED,
    network::CUT_OFF,
    network::DIED,
    network::FROZEN,
    network::CUT_OFF_WITH_BROKER,
];

/// The fault of this name.
///
/// # Panics
/// When the catalogue has none.
pub fn fault(name: &str) -> &'static Fault {
    FAULTS.iter().find(|fault| fault.name == name).unwrap_or_else(|| panic!("there is no fault named `{name}`"))
}
