//! Deletion of stored bodies that belong to no job: the client has ended before it submitted the job, a worker before it deleted
//! the body, or an operator has deleted the job.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use rbee_schema::DeadJob;

use super::StoredBody;
use crate::{
    Bus, BusError,
    batch::{MANY, Position, StoredMessage},
};

/// Number of entries from which on the memory is built again when it has doubled since it was built. Below it, entries of bodies
/// that were deleted with their jobs take no memory worth saving.
const SMALL: usize = 4_096;

/// Searches for such bodies. It remembers which jobs and dead letters name a body, and reads only what was stored since the last
/// search.
#[derive(Debug)]
pub struct BodySweeper {
    bus: Bus,
    jobs: Holders,
    dead: Holders,
}

/// Messages of a stream that name a body.
#[derive(Debug, Default)]
struct Holders {
    /// Sequence of the last message that names an object, by the name of the object.
    sequences: HashMap<String, u64>,
    /// Sequence up to which the stream was read.
    read_to: u64,
    /// Number of entries above which all of this is built again. `None` until the stream was read to its end.
    limit: Option<usize>,
}

impl BodySweeper {
    /// A sweeper that knows nothing yet.
    pub fn new(bus: &Bus) -> Self {
        Self { bus: bus.clone(), jobs: Holders::default(), dead: Holders::default() }
    }

    /// Deletes the bodies that were stored longer than `age` ago and that no job in the queue and no dead letter names. Returns
    /// their number.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn sweep(&mut self, age: Duration) -> Result<u64, BusError> {
        let bodies = self.bus.bodies();
        let old = bodies.old_objects(age, &HashSet::new()).await?;
        let mut deleted = old.deleted;
        if old.names.is_empty() {
            return Ok(deleted);
        }
        let Self { bus, jobs, dead } = self;
        let all_jobs = bus.namespace().all_jobs();
        jobs.read(bus, "jobs", &all_jobs, |message| body_of_job(bus, message)).await?;
        let all_dead = bus.namespace().all_dead();
        dead.read(bus, "dead", &all_dead, body_of_dead_letter).await?;
        for name in old.names {
            let is_held =
                jobs.hold(bus, "jobs", &all_jobs, &name).await? || dead.hold(bus, "dead", &all_dead, &name).await?;
            if !is_held {
                bodies.delete(&name).await?;
                deleted += 1;
            }
        }
        Ok(deleted)
    }
}

impl Holders {
    /// Reads what was stored since the last time.
    async fn read(
        &mut self,
        bus: &Bus,
        stream: &str,
        filter: &str,
        body: impl Fn(&StoredMessage) -> Option<String>,
    ) -> Result<(), BusError> {
        if self.limit.is_some_and(|limit| self.sequences.len() > limit) {
            *self = Self::default();
        }
        loop {
            let batch = bus.read_batch(stream, filter, Position::Sequence(self.read_to + 1), MANY).await?;
            let Some(last) = batch.last() else {
                self.limit = self.limit.or(Some((self.sequences.len() * 2).max(SMALL)));
                return Ok(());
            };
            self.read_to = last.sequence;
            for message in &batch {
                if let Some(object) = body(message) {
                    self.sequences.insert(object, message.sequence);
                }
            }
        }
    }

    /// True if a message names this object and is still stored.
    async fn hold(&mut self, bus: &Bus, stream: &str, filter: &str, object: &str) -> Result<bool, BusError> {
        let Some(&sequence) = self.sequences.get(object) else { return Ok(false) };
        let found = bus.read_batch(stream, filter, Position::Sequence(sequence), 1).await?;
        let is_stored = found.first().is_some_and(|message| message.sequence == sequence);
        if !is_stored {
            self.sequences.remove(object);
        }
        Ok(is_stored)
    }
}

/// Name of the object that holds the body of a job.
fn body_of_job(bus: &Bus, message: &StoredMessage) -> Option<String> {
    let headers = Some(&message.headers);
    let tenant = bus.names(&message.subject, headers, message.sequence).tenant;
    StoredBody::read(headers, &tenant, &message.payload).ok()?.map(|body| body.object)
}

/// Name of the object that holds the body of a job that was given up.
fn body_of_dead_letter(message: &StoredMessage) -> Option<String> {
    serde_json::from_slice::<DeadJob>(&message.payload).ok()?.body_object
}
