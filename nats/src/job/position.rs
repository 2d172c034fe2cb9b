//! Place of a job in the queue. It is counted by the server, so it costs the same however many jobs wait.

use rbee_schema::{JobFlow, JobInFlight, ModelName};

use crate::{Bus, BusError, Subject, batch::Position};

impl Bus {
    /// Number of jobs of a flow that were queued after the one with this sequence, and wait or run.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn jobs_behind(&self, model: &ModelName, flow: &JobFlow, sequence: u64) -> Result<u64, BusError> {
        let filter = self.subject(&Subject::Job(model.clone(), flow.class, flow.tenant.clone()));
        let next = self.read_batch("jobs", &filter, Position::Sequence(sequence + 1), 1).await?;
        Ok(next.first().map_or(0, |next| next.pending + 1))
    }
}

/// Flow of a running job, from the consumer in its acknowledgement subject. `None` if it was delivered by another consumer.
pub fn flow_of(job: &JobInFlight) -> Option<JobFlow> {
    job.ack.split('.').find_map(|token| match token.split('=').collect::<Vec<_>>().as_slice() {
        [_, class, tenant] => Some(JobFlow { class: class.parse().ok()?, tenant: tenant.parse().ok()? }),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use rbee_schema::JobClass;

    use super::*;

    #[test]
    fn flow_of_a_running_job_is_read_from_its_acknowledgement_subject() {
        for (ack, expected) in [
            ("$JS.ACK.rbee_jobs.m=batch=acme.1.7.1.1700000000000000000.0", Some((JobClass::Batch, "acme"))),
            ("$JS.ACK.hub.AAAA.rbee_jobs.m=interactive=t.1.7.1.17.0.x", Some((JobClass::Interactive, "t"))),
            ("$JS.ACK.rbee_jobs.m-batch.1.7.1.17.0", None),
            ("", None),
        ] {
            let (tenant, job) = ("t".parse().expect("a name"), "j".parse().expect("a name"));
            let job = JobInFlight { tenant, job, ack: ack.to_owned(), waits: false, redelivery_ms: None };
            let found = flow_of(&job);
            assert_eq!(found.as_ref().map(|flow| (flow.class, flow.tenant.as_str())), expected, "{ack}");
        }
    }
}
