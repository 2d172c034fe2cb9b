//! Jobs: submitted to a durable queue, pulled by workers one at a time, and removed from the queue when they are answered.
//! Steps 1, 4 and 6 of a job's path.

mod answer;
mod blame;
mod body;
mod cancel;
mod clock;
mod consumer;
mod cut;
mod dead;
mod deadline;
mod delivery;
mod finder;
mod history;
mod id;
mod inspect;
mod list;
mod position;
mod pull;
mod settle;
mod submit;
mod sweep;

pub use self::{
    answer::{Answered, Begun},
    blame::BlamedExit,
    body::{BodyError, StoredBody, is_object_of},
    cancel::{StoredCancel, unknown_job},
    clock::{ClockReading, JobClock},
    dead::{DeadLetter, no_dead_letter},
    deadline::QueuedDeadlines,
    delivery::Delivery,
    finder::JobFinder,
    history::{JobHistory, StoredJobEvent},
    id::Misnamed,
    inspect::{QueueCount, QueuedJob},
    list::{EndedJob, JobBatch, JobFilter},
    position::flow_of,
    pull::{JobQueue, LIMITED_FETCH, Priority, Pull, Pulled, Received, STANDING},
    submit::{Submission, duplicate_job},
    sweep::BodySweeper,
};
pub(crate) use self::{
    deadline::deadlines,
    id::{JobNames, MESSAGE_ID, chosen_id},
};
