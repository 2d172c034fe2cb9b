//! Decisions in a form in which those of the replay and the recorded ones can be compared.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime},
};

use rbee_schema::{HiveName, ModelName, WorkerName};

use crate::decide::plan::{Action, NewWorker};

/// Time by which a decision may be recorded before the event from which it follows: processes publish independently.
const EARLY: Duration = Duration::from_secs(1);

/// Time by which a decision may be recorded after the event from which it follows. A heartbeat may be a second late, and a
/// busy server delays events.
pub(super) const LATE: Duration = Duration::from_secs(5);

/// Decision of a planner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// Start a worker. The replay does not know its name.
    Spawn {
        model: ModelName,
        hive: HiveName,
        worker: Option<WorkerName>,
    },
    Stop {
        hive: HiveName,
        worker: WorkerName,
    },
    Unplaceable {
        model: ModelName,
    },
}

/// Decision that an event records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RecordedDecision {
    pub(super) at: SystemTime,
    pub(super) decision: Decision,
    /// The decision as a sentence.
    pub(super) text: String,
}

impl Decision {
    /// The decision of an action. `None` for an action that leaves no event of its own.
    pub(super) fn of(action: &Action) -> Option<Self> {
        match action {
            Action::Spawn(NewWorker { model, hive, .. }) => {
                Some(Self::Spawn { model: model.clone(), hive: hive.clone(), worker: None })
            }
            Action::Stop { worker: (hive, worker), .. } => {
                Some(Self::Stop { hive: hive.clone(), worker: worker.clone() })
            }
            Action::ReportUnplaceable { model, .. } => Some(Self::Unplaceable { model: model.clone() }),
            Action::Refuse { .. } => None,
        }
    }

    /// Model that the decision is about, if it names one.
    pub(super) fn model(&self) -> Option<&ModelName> {
        match self {
            Self::Spawn { model, .. } | Self::Unplaceable { model } => Some(model),
            Self::Stop { .. } => None,
        }
    }

    /// True if both are about the same thing, though they may differ in the hive of a new worker.
    fn is_about_the_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Spawn { model, .. }, Self::Spawn { model: other, .. })
            | (Self::Unplaceable { model }, Self::Unplaceable { model: other }) => model == other,
            (Self::Stop { .. }, Self::Stop { .. }) => self == other,
            (Self::Spawn { .. } | Self::Stop { .. } | Self::Unplaceable { .. }, _) => false,
        }
    }

    /// True if both are the same, but for the name of a new worker.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Spawn { hive, .. }, Self::Spawn { hive: other, .. }) if hive != other => false,
            _ => self.is_about_the_same(other),
        }
    }
}

/// Takes the recorded decision that is about the same as one of the replay at this time; the same one if there are several.
pub(super) fn take_match(
    recorded: &mut VecDeque<RecordedDecision>,
    decision: &Decision,
    at: SystemTime,
) -> Option<RecordedDecision> {
    let (from, until) = (at.checked_sub(EARLY)?, at.checked_add(LATE)?);
    let near = |found: &RecordedDecision| found.at >= from && found.at <= until;
    let of_kind = |matches: fn(&Decision, &Decision) -> bool| {
        recorded.iter().position(|found| near(found) && matches(&found.decision, decision))
    };
    let position = of_kind(Decision::is_same).or_else(|| of_kind(Decision::is_about_the_same))?;
    recorded.remove(position)
}
