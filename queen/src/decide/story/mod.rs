//! The story of one job: stored facts, in the order in which they happened, as sentences and as durations.

mod steps;
pub(in crate::decide) mod tell;
mod timings;

pub use self::{
    steps::{Fact, Step, steps},
    timings::{Milestones, timings},
};
