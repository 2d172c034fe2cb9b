//! Result of a replay.

use std::{collections::BTreeSet, time::SystemTime};

/// Result of a replay.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Replayed {
    /// Inputs and decisions, in order, up to the first difference.
    pub steps: Vec<ReplayStep>,
    /// First difference between the decisions of the replay and the recorded ones.
    pub difference: Option<Difference>,
    /// Number of decisions that are the recorded ones.
    pub equal: usize,
    /// Inputs of the planner that the events do not tell, each as a sentence.
    pub unknown: BTreeSet<String>,
}

/// Input of the planner, and what was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayStep {
    /// Time of the input.
    pub at: SystemTime,
    /// The input as a sentence.
    pub input: String,
    /// Decisions that follow from it.
    pub decisions: Vec<Decided>,
}

/// Decision of the replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The decision as a sentence.
    pub text: String,
    /// The recorded decision that it is, as a sentence. Absent for a decision that leaves no event of its own.
    pub recorded: Option<String>,
}

/// Difference between the decisions of the replay and the recorded ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Time of the decision.
    pub at: SystemTime,
    /// Decision of the replay; absent if it decided nothing.
    pub decided: Option<String>,
    /// Recorded decision; absent if there is none.
    pub recorded: Option<String>,
}
