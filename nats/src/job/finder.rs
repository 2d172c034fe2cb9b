//! The place of a job in the queue, by its tenant and id.
//!
//! The queue has no index of ids. One is built when the first job is looked for, and each later look-up reads only what was
//! queued since. It therefore costs nothing while nobody asks, and about 40 bytes per queued job afterwards.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use rbee_schema::{JobId, Tenant};
use tokio::sync::{mpsc, oneshot};

use super::{QueuedJob, id::JobNames};
use crate::{
    Bus, BusError,
    batch::{MANY, Position, StoredMessage},
};

/// Number of look-ups that may wait. Each takes a request to the server, or two.
const WAITING: usize = 256;

/// Number of entries from which on an index is rebuilt when it has doubled since it was built. Below it, entries of jobs that
/// have left the queue take no memory worth saving.
const SMALL: usize = 4_096;

/// Finds jobs in the queue. Cheap to clone.
#[derive(Debug, Clone)]
pub struct JobFinder {
    requests: mpsc::Sender<LookUp>,
}

struct LookUp {
    tenant: Tenant,
    job: JobId,
    reply: oneshot::Sender<Result<Option<QueuedJob>, BusError>>,
}

impl JobFinder {
    /// Starts the task that owns the index. It ends when every clone of the finder is dropped.
    pub fn start(bus: &Bus) -> Self {
        let (requests, mut look_ups) = mpsc::channel::<LookUp>(WAITING);
        let bus = bus.clone();
        tokio::spawn(async move {
            let mut index = JobIndex::default();
            while let Some(LookUp { tenant, job, reply }) = look_ups.recv().await {
                let _ = reply.send(find(&bus, &mut index, &tenant, &job).await);
            }
        });
        Self { requests }
    }

    /// The job with this tenant and id, if it waits or runs.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn find(&self, tenant: &Tenant, job: &JobId) -> Result<Option<QueuedJob>, BusError> {
        let stopped = || BusError::new(format!("find job {job}"), "the task that looks for jobs has ended");
        let (reply, found) = oneshot::channel();
        let look_up = LookUp { tenant: tenant.clone(), job: job.clone(), reply };
        self.requests.send(look_up).await.map_err(|_| stopped())?;
        found.await.map_err(|_| stopped())?
    }
}

async fn find(bus: &Bus, index: &mut JobIndex, tenant: &Tenant, job: &JobId) -> Result<Option<QueuedJob>, BusError> {
    index.forget_departed();
    loop {
        let from = Position::Sequence(index.read_to + 1);
        let batch = bus.read_batch("jobs", &bus.namespace().all_jobs(), from, MANY).await?;
        if batch.is_empty() {
            break;
        }
        for StoredMessage { subject, sequence, headers, .. } in batch {
            let JobNames { tenant, job, .. } = bus.names(&subject, Some(&headers), sequence);
            index.insert(&tenant, &job, sequence);
        }
    }
    index.read_whole_queue();
    let Some(sequence) = index.sequence(tenant, job) else { return Ok(None) };
    let found = bus.queued_job_at(sequence).await?;
    Ok(found.filter(|found| found.tenant == *tenant && found.job == *job))
}

/// Sequence of each job, by the hash of its tenant and id. An entry may be of a job that has left the queue.
#[derive(Debug, Default)]
struct JobIndex {
    sequences: HashMap<u64, u64>,
    /// Sequence up to which the queue was read.
    read_to: u64,
    /// Number of entries above which the index is built again. `None` until the queue was read to its end.
    limit: Option<usize>,
}

impl JobIndex {
    fn insert(&mut self, tenant: &Tenant, job: &JobId, sequence: u64) {
        self.sequences.insert(hash(tenant, job), sequence);
        self.read_to = self.read_to.max(sequence);
    }

    fn sequence(&self, tenant: &Tenant, job: &JobId) -> Option<u64> {
        self.sequences.get(&hash(tenant, job)).copied()
    }

    /// Empties an index that has doubled since it was built, so that it is built again without the jobs that have left.
    fn forget_departed(&mut self) {
        if self.limit.is_some_and(|limit| self.sequences.len() > limit) {
            *self = Self::default();
        }
    }

    /// The queue was read to its end.
    fn read_whole_queue(&mut self) {
        self.limit = self.limit.or(Some((self.sequences.len() * 2).max(SMALL)));
    }
}

fn hash(tenant: &Tenant, job: &JobId) -> u64 {
    let mut hasher = DefaultHasher::new();
    (tenant, job).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_is_built_again_only_when_it_has_doubled() {
        let (tenant, mut index) = (Tenant::default(), JobIndex::default());
        // Each look-up reads what was queued since the one before. Returns what is known before the read and after it.
        let look_up = |index: &mut JobIndex, queued: u64| {
            index.forget_departed();
            let known = index.sequences.len();
            for _ in 0..queued {
                let sequence = index.read_to + 1;
                index.insert(&tenant, &JobId::from_sequence(sequence), sequence);
            }
            index.read_whole_queue();
            (known, index.sequences.len())
        };
        assert_eq!(look_up(&mut index, 10_000), (0, 10_000));
        assert_eq!(look_up(&mut index, 10_001), (10_000, 20_001));
        assert_eq!(look_up(&mut index, 10), (0, 10), "most of these jobs have left the queue");
        assert_eq!(look_up(&mut index, 10), (10, 20));
    }

    #[test]
    fn job_is_found_under_its_own_tenant_only() {
        let (mut index, job) = (JobIndex::default(), JobId::from_sequence(1));
        let other: Tenant = "acme".parse().expect("a name");
        index.insert(&other, &job, 5);
        assert_eq!((index.sequence(&other, &job), index.sequence(&Tenant::default(), &job)), (Some(5), None));
    }
}
