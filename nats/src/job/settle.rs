//! The end of an attempt without an answer: the job is returned to the queue.

use rbee_schema::{Event, HiveName, JobEvent, JobInFlight, WorkerName};
use tracing::warn;

use crate::{Bus, BusError, Outbox};

impl Bus {
    /// Naks a job on behalf of a worker that is gone, which returns the job to the queue. At most once for each delivery: a
    /// second nak would end the next worker's delivery. The server does not confirm it. If the nak is lost, the job returns
    /// after the redelivery timeout.
    ///
    /// # Errors
    /// The connection is closed.
    pub async fn nak(&self, job: &JobInFlight) -> Result<(), BusError> {
        let published = self.client().publish(job.ack.clone(), "-NAK".into()).await;
        published.map_err(|error| BusError::new(format!("return job {} to the queue", job.job), error))
    }

    /// Returns the jobs of a worker that is gone to the queue, and publishes an event for each.
    pub async fn return_to_queue(&self, outbox: &Outbox, hive: &HiveName, worker: &WorkerName, jobs: Vec<JobInFlight>) {
        for job in jobs {
            if let Err(error) = self.nak(&job).await {
                warn!(job = %job.job, %error, "the job returns to the queue only after the redelivery timeout");
            }
            let returned = JobEvent::Returned { hive: hive.clone(), worker: worker.clone() };
            outbox.publish(&Event::Job(job.tenant, job.job, returned));
        }
    }
}
