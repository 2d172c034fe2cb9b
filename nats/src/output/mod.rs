//! Output of jobs: chunks appended by compare-and-set, and read without gaps or duplicates. Steps 5 and 6 of a job's path.
//!
//! Each append names the stream sequence of the previous chunk. A worker that was believed dead and appends again names a
//! sequence that is no longer the last, and is refused. This is the fence; acknowledgements of jobs do not fence.
//!
//! The output of a job is kept while the job is in the queue. The leading queen deletes older output (`prune.rs`); a full
//! stream refuses further chunks. A reader or worker that misses chunks which are no longer stored gets [`OutputGone`].

mod append;
mod continuity;
mod ends;
mod partial;
mod prune;
mod reader;
mod stored;

pub use self::{
    append::AppendError,
    continuity::{OutputGone, next_index},
    ends::OutputEnds,
    partial::partial_end,
    prune::OutputUsage,
    reader::{OutputReadError, OutputReader},
    stored::{LastChunk, StoredChunk},
};
