//! Batches: files of requests that the leading queen runs line by line, in the format of OpenAI's batch API.
//!
//! A batch has a record in the bucket `batches`. The leader watches the records and runs a few batches at a time ([`run_all`]). Each
//! line becomes a job of the class `batch`, and only a window of lines has jobs at a time, so that a large file does not fill the
//! queue. Answers are appended in the order of the lines, a piece at a time, and each piece is a checkpoint (`rbee_nats::Batches`).
//!
//! When another queen leads, it continues at the checkpoint. Ids of jobs follow from the number of the run and of the line, so
//! it finds the jobs that were queued, and no line is answered twice.

mod answer;
mod line;
mod lines;
mod output;
mod run;
mod supervisor;
mod sweep;

pub(crate) use self::{supervisor::run_all, sweep::sweep};
