//! Jobs: submitted to a durable queue, pulled by workers one at a time, and removed from the queue when they are answered.
//! Steps 1, 4 and 6 of a job's path.

mod answer;
mod blame;
mod body;
mod cancel;
mod clock;
mod consumer;
mod cut;
mod deadline;
mod delivery;
mod finder;
mod id;
mod inspect;
mod list;
mod pull;
mod settle;
mod submit;
mod sweep;

pub use self::{
    answer::{Answered, Begun},
    blame::BlamedExit,
    body::{BodyError, StoredBody},
    cancel::{StoredCancel, unknown_job},
    clock::{ClockReading, JobClock},
    deadline::QueuedDeadlines,
    delivery::Delivery,
    finder::JobFinder,
    id::Misnamed,
    inspect::{QueueCount, QueuedJob},
    list::{EndedJob, JobBatch, JobFilter},
    pull::{JobQueue, LIMITED_FETCH, Priority, Pull, Pulled, Received, STANDING},
    submit::{Submission, duplicate_job},
    sweep::BodySweeper,
};
pub(crate) use self::{
    deadline::deadlines,
    id::{JobNames, MESSAGE_ID, chosen_id},
};
