//! Goals of commands to hives: which events lead to them, reach them, or rule them out. Pure.

use rbee_schema::{Event, FailureCode, HiveEvent, HiveName, WorkerEvent, WorkerName};

/// The state that a command is meant to bring about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Goal {
    /// A worker has ended and is removed from its hive.
    WorkerRemoved(WorkerName),
    /// The process of a worker has started again.
    WorkerStarted(WorkerName),
    /// A hive is draining and has no workers left.
    HiveDrained,
    /// A hive accepts workers again.
    HiveResumed,
    /// A hive has stopped.
    HiveStopped,
}

/// Effect of an event on a goal, with a message for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The event concerns something else.
    Unrelated,
    /// A step on the way.
    Step(String),
    /// The goal is reached.
    Reached(String),
    /// The goal cannot be reached any more.
    Failed(String),
}

impl Goal {
    /// Effect of an event on this goal.
    pub(crate) fn assess(&self, event: &Event) -> Progress {
        match event {
            Event::Hive(hive, event) => self.assess_hive(hive, event),
            Event::Worker(_, worker, event) => self.assess_worker(worker, event),
            Event::Queen(..)
            | Event::Port(..)
            | Event::Model(..)
            | Event::Tenant(..)
            | Event::Job(..)
            | Event::Alert(..) => Progress::Unrelated,
        }
    }

    fn assess_worker(&self, worker: &WorkerName, event: &WorkerEvent) -> Progress {
        let Some(message) = message(event) else { return Progress::Unrelated };
        let message = format!("{worker} {message}");
        match (self, event) {
            (Self::WorkerRemoved(target), WorkerEvent::Removed { .. }) if target == worker => {
                Progress::Reached(message)
            }
            (Self::WorkerStarted(target), WorkerEvent::Spawned { .. }) if target == worker => {
                Progress::Reached(message)
            }
            (Self::WorkerStarted(target), WorkerEvent::Failed { .. } | WorkerEvent::Removed { .. })
                if target == worker =>
            {
                Progress::Failed(message)
            }
            _ => Progress::Step(message),
        }
    }

    fn assess_hive(&self, hive: &HiveName, event: &HiveEvent) -> Progress {
        match (self, event) {
            (_, HiveEvent::Fenced { by }) => {
                Progress::Failed(format!("{hive} has ended: another hive of this name is running on {by}"))
            }
            (Self::WorkerStarted(_) | Self::HiveResumed, HiveEvent::Stopped { .. }) => {
                Progress::Failed(format!("{hive} has stopped"))
            }
            (Self::WorkerRemoved(_) | Self::HiveDrained | Self::HiveStopped, HiveEvent::Stopped { killed }) => {
                Progress::Reached(match killed {
                    0 => format!("{hive} has stopped"),
                    killed => format!("{hive} has stopped; workers that had to be killed: {killed}"),
                })
            }
            (Self::HiveDrained, HiveEvent::Draining { workers: 0, .. } | HiveEvent::Drained { left: 0 }) => {
                Progress::Reached(format!("{hive} is draining and has no workers left"))
            }
            (
                Self::HiveDrained | Self::HiveStopped,
                HiveEvent::Draining { workers: left, .. } | HiveEvent::Drained { left },
            ) => Progress::Step(format!("{hive} is draining; workers left: {left}")),
            (Self::HiveResumed, HiveEvent::Resumed {}) => Progress::Reached(format!("{hive} accepts workers again")),
            (Self::HiveDrained, HiveEvent::Resumed {}) => {
                Progress::Failed(format!("{hive} accepts workers again: another command has undone the drain"))
            }
            (Self::WorkerStarted(_), HiveEvent::Refused { failure }) => Progress::Failed(failure.to_string()),
            (Self::WorkerRemoved(_), HiveEvent::Refused { failure }) if failure.code == FailureCode::UnknownWorker => {
                Progress::Failed(failure.to_string())
            }
            (Self::HiveStopped, HiveEvent::Refused { failure }) if failure.code == FailureCode::StaleCommand => {
                Progress::Failed(format!("{hive} has restarted in the meantime: {failure}"))
            }
            // Refusals of other commands are among these.
            _ => Progress::Unrelated,
        }
    }
}

/// Message for an event of a worker, to be read after its name; none for events that no command leads to.
fn message(event: &WorkerEvent) -> Option<String> {
    Some(match event {
        WorkerEvent::Spawned { pid, port, .. } => format!("has started as process {pid} on port {port}"),
        WorkerEvent::Draining { .. } => "finishes its jobs".to_owned(),
        WorkerEvent::Stopping { why } => format!("is stopping: {why}"),
        WorkerEvent::Unkillable { pid, .. } => format!("has not ended after SIGKILL: inspect process {pid}"),
        WorkerEvent::Exited { jobs_returned: 0, .. } => "has ended".to_owned(),
        WorkerEvent::Exited { jobs_returned, .. } => {
            format!("has ended; jobs returned to the queue: {jobs_returned}")
        }
        WorkerEvent::Failed { failure, .. } => format!("failed to start: {failure}"),
        WorkerEvent::Removed { .. } => "is removed".to_owned(),
        WorkerEvent::Loading { .. }
        | WorkerEvent::Ready { .. }
        | WorkerEvent::Adopted { .. }
        | WorkerEvent::Suspect { .. }
        | WorkerEvent::Recovered { .. }
        | WorkerEvent::Restarting { .. }
        | WorkerEvent::CrashLooped { .. }
        | WorkerEvent::Ignored { .. } => return None,
    })
}

#[cfg(test)]
mod tests;
