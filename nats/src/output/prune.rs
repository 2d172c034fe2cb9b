//! Deletion of old output. The leading queen deletes, because the server does not know which jobs still run.
//!
//! The output of a job is stored after the job itself. So every chunk that was stored before the oldest job in the queue
//! belongs to a job that has left the queue, and is deleted when it is older than the limit `output_age`, or at once while the
//! stream is nearly full.

use std::time::SystemTime;

use async_nats::jetstream::{
    consumer::{AckPolicy, DeliverPolicy, pull},
    stream::{LastRawMessageErrorKind, State, Stream},
};
use futures::StreamExt as _;

use super::stored::FORGOTTEN_AFTER;
use crate::{
    Bus, BusError,
    bus::header,
    job::{JobNames, MESSAGE_ID},
    topology::output_age,
};

/// Share of the limit of bytes above which output is deleted before its age.
const NEARLY_FULL: f64 = 0.8;

/// Share of the limit of bytes that such a deletion leaves.
const RELIEVED: f64 = 0.6;

/// Number of queued jobs, oldest first, among which one with output is searched. A longer search would load the server, and
/// stopping early deletes less.
const SEARCHED_JOBS: usize = 256;

/// Use of the output stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputUsage {
    /// Number of stored bytes.
    pub bytes: u64,
    /// Limit of the stream in bytes; `None` for no limit.
    pub limit: Option<u64>,
    /// Number of chunks that were deleted.
    pub deleted: u64,
}

impl OutputUsage {
    /// True if the output of the jobs in the queue alone nearly fills the stream.
    pub fn is_nearly_full(&self) -> bool {
        share(self.bytes, self.limit) > NEARLY_FULL
    }
}

impl Bus {
    /// Deletes output of answered jobs that is older than the limit `output_age`, and younger output while the stream is nearly
    /// full. Returns the use of the stream afterwards.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn prune_output(&self) -> Result<OutputUsage, BusError> {
        let failed = |cause: String| BusError::new("delete old output", cause);
        let output = self.output_stream().await?;
        let info = output.get_info().await.map_err(|error| failed(error.to_string()))?;
        let limit = u64::try_from(info.config.max_bytes).ok().filter(|bytes| *bytes > 0);
        let before = OutputUsage { bytes: info.state.bytes, limit, deleted: 0 };
        if info.state.messages == 0 {
            return Ok(before);
        }
        let now = self.server_time().await?;
        let is_old = now.checked_sub(output_age(&info.config)).unwrap_or(SystemTime::UNIX_EPOCH);
        // Read after the state of the output: a job that is queued later has no output among what is deleted.
        let unfinished = self.oldest_unfinished().await?;
        let mut end = self.output_since(&output, unfinished.map_or(is_old, |job| job.min(is_old)), &info.state).await?;
        if let Some(relieving) = relieving(&info.state, limit) {
            let kept = match unfinished {
                Some(job) => self.output_since(&output, job, &info.state).await?,
                None => info.state.last_sequence + 1,
            };
            end = end.max(relieving.min(kept));
        }
        if end <= info.state.first_sequence {
            return Ok(before);
        }
        let purged = output.purge().sequence(end).await.map_err(|error| failed(error.to_string()))?;
        let info = output.get_info().await.map_err(|error| failed(error.to_string()))?;
        Ok(OutputUsage { bytes: info.state.bytes, limit, deleted: purged.purged })
    }

    /// Time at which the oldest job in the queue that has output was stored; `None` if no job in the queue has output.
    async fn oldest_unfinished(&self) -> Result<Option<SystemTime>, BusError> {
        let jobs = self.jobs().await?;
        let (mut from, mut searched) = (1, 0);
        loop {
            let next = jobs.raw_message_builder().sequence(from).next_by_subject(self.namespace().all_jobs());
            let message = match next.send().await {
                Ok(message) => message,
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => return Ok(None),
                Err(error) => return Err(BusError::new("read the queue", error)),
            };
            searched += 1;
            let stored = Some(SystemTime::from(message.time));
            if searched == SEARCHED_JOBS {
                return Ok(stored);
            }
            let id = header(Some(&message.headers), MESSAGE_ID);
            let JobNames { tenant, job, .. } = JobNames::read(self.namespace(), &message.subject, id, message.sequence);
            if self.last_chunk(&tenant, &job).await?.is_some() {
                return Ok(stored);
            }
            from = message.sequence + 1;
        }
    }

    /// Sequence of the first chunk that was stored at `time` or later; the next sequence if there is none.
    async fn output_since(&self, output: &Stream<()>, time: SystemTime, state: &State) -> Result<u64, BusError> {
        let failed = |cause: String| BusError::new("find old output", cause);
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartTime { start_time: time.into() },
            ack_policy: AckPolicy::None,
            memory_storage: true,
            inactive_threshold: FORGOTTEN_AFTER,
            ..pull::Config::default()
        };
        let consumer = output.create_consumer(config).await.map_err(|error| failed(error.to_string()))?;
        let batch = consumer.fetch().max_messages(1).messages().await;
        let mut batch = batch.map_err(|error| failed(error.to_string()))?;
        let first = batch.next().await.transpose().map_err(|error| failed(error.to_string()))?;
        let _ = output.delete_consumer(&consumer.cached_info().name).await;
        match first {
            Some(message) => Ok(message.info().map_err(|error| failed(error.to_string()))?.stream_sequence),
            None => Ok(state.last_sequence + 1),
        }
    }
}

/// Sequence up to which chunks must be deleted to relieve the stream, if it is nearly full and all chunks are of equal size.
fn relieving(state: &State, limit: Option<u64>) -> Option<u64> {
    let used = share(state.bytes, limit);
    let surplus = (used - RELIEVED) / used;
    (used > NEARLY_FULL).then(|| state.first_sequence + (state.messages as f64 * surplus).ceil() as u64)
}

fn share(bytes: u64, limit: Option<u64>) -> f64 {
    limit.map_or(0.0, |limit| bytes as f64 / limit as f64)
}
