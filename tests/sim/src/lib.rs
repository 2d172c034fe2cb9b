//! A deterministic simulation of a whole fleet: clients, workers, hives and queens over a model of the server.
//!
//! The processes are thin shells around the decisions of the product (`decide/` of worker, hive and queen). Time is virtual, and
//! everything that could happen in another order is drawn from one seed, so a failing seed fails again. While faults are
//! injected, an observer checks the rules of `check/` at each step.
//!
//! [`run`] runs one seed. The model of the server is held against a real one by `tests/it/sim/`.

pub mod broker;
pub mod check;
pub mod fault;
pub mod network;
pub mod node;
pub mod runtime;
pub mod scenario;
pub mod simulate;
pub mod words;

pub use self::{
    check::Counts,
    node::Flaws,
    scenario::{Load, Scenario},
    simulate::{Outcome, run},
};
