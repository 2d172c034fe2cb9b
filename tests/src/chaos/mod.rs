//! Faults, injected for real: signals, occupied ports, lost servers, full disks, and failures that the mock engine
//! simulates.
//!
//! [`FAULTS`] is one catalogue for the tests, which check the outcome of each fault, and for `rbee-chaos`, which also
//! measures how long detection and recovery take. After every run the whole fleet is checked: see [`check_invariants`].

mod catalogue;
mod events;
mod fault;
mod faults;
mod history;
mod invariants;
mod measured;
mod needs;
mod random;

pub use self::{
    catalogue::{FAULTS, fault},
    events::{EventReader, StoredEvent},
    fault::Fault,
    faults::TIMERS,
    invariants::check_invariants,
    measured::Measured,
    needs::Needs,
    random::{RandomFaults, RandomModel, Survived},
};
