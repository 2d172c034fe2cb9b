//! Workers and jobs that are left on the bus after everything has ended.

use std::fmt;

use rbee_nats::{Bus, Registry};
use rbee_schema::WorkerRecord;
use serde::Serialize;

use crate::{
    Context,
    error::CliError,
    output::{self, say},
};

/// Workers and jobs that are left after everything has ended.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Leftover {
    workers: Vec<OrphanedWorker>,
    jobs_queued: u64,
}

/// A worker whose hive has ended without reporting the end of the worker.
#[derive(Debug, PartialEq, Serialize)]
struct OrphanedWorker {
    hive: String,
    worker: String,
    pid: Option<u32>,
    port: Option<u16>,
}

impl Leftover {
    /// Reads the registry of workers and the queue.
    ///
    /// # Errors
    /// The server does not answer.
    pub(super) async fn find(bus: &Bus) -> Result<Self, CliError> {
        let workers = Registry::workers(bus).all().await?;
        let jobs_queued = bus.queue_depths().await?.iter().map(|(_, depth)| depth).sum();
        Ok(Self { workers: workers.into_iter().map(OrphanedWorker::new).collect(), jobs_queued })
    }

    /// Prints `summary` and what is left.
    ///
    /// # Errors
    /// Workers are left.
    pub(super) fn report(&self, context: &Context, summary: &str) -> Result<(), CliError> {
        if context.json {
            output::json(self);
        } else {
            say!("{summary}");
            if self.jobs_queued > 0 {
                say!("jobs in the queue, which run when the fleet is up again: {}", self.jobs_queued);
            }
        }
        if self.workers.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = self.workers.iter().map(ToString::to_string).collect();
        Err(CliError::failed(format!(
            "the end of these workers was not reported: {}. Start their hive again, so that it recovers them; then stop it \
             with `rbee stop`",
            names.join(", ")
        )))
    }
}

impl OrphanedWorker {
    fn new((key, record): (String, WorkerRecord)) -> Self {
        let (hive, worker) = key.split_once('.').unwrap_or(("", &key));
        Self { hive: hive.to_owned(), worker: worker.to_owned(), pid: record.pid, port: record.port }
    }
}

impl fmt::Display for OrphanedWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.hive, self.worker)?;
        if let Some(pid) = self.pid {
            write!(f, " (process {pid} on its machine)")?;
        }
        Ok(())
    }
}
