//! A queen: it knows the fleet, and plans while it holds the lease, as `queen/src/` does.

mod answer;
mod campaign;
mod cancels;
mod commands;
mod inputs;
mod refusals;
mod run;
mod state;

pub use self::run::Queen;
