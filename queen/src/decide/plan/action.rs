//! A plan as data.

use std::{collections::BTreeSet, fmt};

use rbee_schema::{Failure, HiveName, JobClass, ModelName, ModelSpec, StopMode};

use crate::decide::fleet::WorkerKey;

/// Actions of one planning pass. Prints itself with one action per line.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// Actions, in the order in which they must be carried out.
    pub actions: Vec<Action>,
    /// Models for which something is left to be done after the actions.
    pub pending: BTreeSet<ModelName>,
}

/// One action.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Command a hive to start a worker.
    Spawn(NewWorker),
    /// Command a hive to stop a worker.
    Stop {
        /// Hive and name of the worker.
        worker: WorkerKey,
        /// Treatment of its running jobs.
        mode: StopMode,
        /// Reason, for people.
        why: String,
    },
    /// Answer the waiting jobs of a model with a failure: the model cannot be started.
    Refuse {
        /// Name of the model.
        model: ModelName,
        /// Class of the jobs; `None` for all.
        class: Option<JobClass>,
        /// Failure to answer with.
        failure: Failure,
    },
    /// Report that a model is in demand and no hive can run it for now. Its jobs wait.
    ReportUnplaceable {
        /// Name of the model.
        model: ModelName,
        /// Reason.
        failure: Failure,
    },
}

/// A worker to be started.
#[derive(Debug, Clone, PartialEq)]
pub struct NewWorker {
    /// Model that the worker serves.
    pub model: ModelName,
    /// Declaration of the model.
    pub spec: ModelSpec,
    /// Hive that runs the worker.
    pub hive: HiveName,
    /// Reason for the worker and for the hive, for people.
    pub why: String,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.actions.is_empty() {
            return f.write_str("nothing to do");
        }
        for (number, action) in self.actions.iter().enumerate() {
            let separator = if number == 0 { "" } else { "\n" };
            write!(f, "{separator}{action}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spawn(NewWorker { model, hive, why, .. }) => write!(f, "start a worker for {model} on {hive}: {why}"),
            Self::Stop { worker: (hive, worker), why, .. } => write!(f, "stop worker {worker} on {hive}: {why}"),
            Self::Refuse { model, class: None, failure } => write!(f, "refuse the waiting jobs of {model}: {failure}"),
            Self::Refuse { model, class: Some(class), failure } => {
                write!(f, "refuse the waiting {class} jobs of {model}: {failure}")
            }
            Self::ReportUnplaceable { model, failure } => write!(f, "report {model} as unplaceable: {failure}"),
        }
    }
}
