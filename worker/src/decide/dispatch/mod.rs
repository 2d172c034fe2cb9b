//! Dispatch: which jobs a worker pulls, and which it runs, pauses or returns.
//!
//! [`Dispatcher`] owns the slots. While jobs are known to wait, it fetches one for each free slot: interactive jobs before
//! batch jobs, and within a class from the flow that was served least for the weight of its tenant. When no job is known to wait, it leaves a standing pull
//! with each flow. When all slots are taken and some of them run batch jobs, it leaves standing pulls with the interactive
//! flows, and pauses a batch job when an interactive job comes.

mod dispatcher;
mod flow;
mod flows;
mod slots;
mod tenants;
#[cfg(test)]
mod tests;

pub use self::dispatcher::{Delivered, Dispatcher, Effect, Ended, Event, Rules};
