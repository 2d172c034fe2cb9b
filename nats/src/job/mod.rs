//! Jobs: submitted to a durable queue, pulled by workers one at a time, and removed from the queue when they are answered.
//! Steps 1, 4 and 6 of a job's path.

mod answer;
mod blame;
mod body;
mod cancel;
mod consumer;
mod delivery;
mod finder;
mod id;
mod inspect;
mod list;
mod pull;
mod settle;
mod submit;
mod sweep;

pub(crate) use self::id::{JobNames, MESSAGE_ID, chosen_id};
pub use self::{
    answer::{Answered, Begun},
    blame::BlamedExit,
    body::{BodyError, StoredBody, is_object_of},
    cancel::{StoredCancel, unknown_job},
    delivery::Delivery,
    finder::JobFinder,
    id::Misnamed,
    inspect::{QueueCount, QueuedJob},
    list::{EndedJob, JobBatch, JobFilter},
    pull::{JobQueue, Priority, Pull, Pulled, Received, STANDING},
    submit::{Submission, duplicate_job},
    sweep::BodySweeper,
};
