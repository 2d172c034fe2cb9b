//! Jobs: submitted to a durable queue, pulled by workers one at a time, and removed from the queue when they are answered.
//! Steps 1, 4 and 6 of a job's path.

mod answer;
mod blame;
mod cancel;
mod consumer;
mod dead;
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

pub(crate) use self::id::{JobNames, MESSAGE_ID, chosen_id};
pub use self::{
    answer::{Answered, Begun},
    blame::BlamedExit,
    cancel::{StoredCancel, unknown_job},
    dead::{DeadLetter, no_dead_letter},
    delivery::Delivery,
    finder::JobFinder,
    history::{JobHistory, StoredJobEvent},
    id::Misnamed,
    inspect::{QueueCount, QueuedJob},
    list::{EndedJob, JobBatch, JobFilter},
    position::flow_of,
    pull::{JobQueue, Priority, Pull, Pulled, Received, STANDING},
    submit::{Submission, duplicate_job},
};
