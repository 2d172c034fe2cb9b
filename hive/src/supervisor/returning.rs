//! The return of a worker's jobs to the queue.
//!
//! This comes first of all that follows an exit: the jobs are with another worker about a millisecond later. A job that may have
//! caused the exit returns after that was stored, because its next worker reads it.

use std::{future, time::Instant};

use futures::{StreamExt as _, stream::FuturesUnordered};
use rbee_nats::{BlamedExit, Bus, Outbox};
use rbee_schema::{HiveName, JobInFlight, WorkerName};
use tokio::time::{Duration, timeout, timeout_at};
use tracing::warn;

use crate::decide::worker::{Blame, ProcessEnd, Returns};

/// Returns the jobs of one worker.
pub(super) struct Returning {
    pub(super) bus: Bus,
    pub(super) outbox: Outbox,
    pub(super) hive: HiveName,
    pub(super) worker: WorkerName,
    /// Longest time for which a job waits until its blame is stored.
    pub(super) blame_limit: Duration,
}

impl Returning {
    pub(super) async fn carry_out(&self, returns: Returns) {
        let Returns { jobs, stderr_tail, blame, until } = returns;
        if !self.is_in_time(until).await {
            let (worker, jobs) = (&self.worker, jobs.len());
            return warn!(%worker, jobs, "jobs of a worker are left to their redelivery timeout, which may have passed");
        }
        let (blamed, others): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| blame.is_some() && !job.waits);
        self.to_queue(others).await;
        let Some(blame) = blame else { return };
        let Blame { end: ProcessEnd { class, code, signal }, running } = blame;
        let (hive, worker) = (self.hive.clone(), self.worker.clone());
        let company = running.saturating_sub(1);
        let exit = BlamedExit { hive, worker, class, code, signal, company, stderr_tail };
        let blamed: FuturesUnordered<_> = blamed.into_iter().map(|job| self.blame_and_return(job, &exit)).collect();
        blamed.for_each(future::ready).await;
    }

    /// Waits until the bus is reachable. False if a nak would come too late then.
    async fn is_in_time(&self, until: Option<Instant>) -> bool {
        let mut online = self.bus.online();
        let reachable = online.wait_for(|online| *online);
        match until {
            // Timer: a nak that the server receives later may end the delivery to another worker.
            Some(until) => Instant::now() < until && matches!(timeout_at(until.into(), reachable).await, Ok(Ok(_))),
            None => reachable.await.is_ok(),
        }
    }

    async fn blame_and_return(&self, job: JobInFlight, exit: &BlamedExit) {
        // Timer: a job does not wait for a slow server.
        match timeout(self.blame_limit, self.bus.blame(&job, exit)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(job = %job.job, %error, "failed to store the blame of a job"),
            Err(_) => warn!(job = %job.job, "the server is slow; the blame of a job may not be stored"),
        }
        self.to_queue(vec![job]).await;
    }

    async fn to_queue(&self, jobs: Vec<JobInFlight>) {
        self.bus.return_to_queue(&self.outbox, &self.hive, &self.worker, jobs).await;
    }
}
