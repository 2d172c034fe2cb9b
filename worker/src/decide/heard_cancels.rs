//! The cancellations that a worker has heard. They tell which jobs are certainly not cancelled, so that nothing must be read
//! for them.

use std::collections::HashSet;

use rbee_schema::{JobId, Tenant};

/// Maximum number of remembered cancellations, which bounds the memory.
const MOST: usize = 10_000;

/// Cancellations that were heard on one connection.
#[derive(Debug, Default)]
pub struct HeardCancels {
    /// Last sequence of the stream `jobs` before which a cancellation may have been missed. `None` while that is unknown.
    since: Option<u64>,
    heard: HashSet<(Tenant, JobId)>,
}

impl HeardCancels {
    /// No cancellation of a job after this sequence was missed. `None` while the connection is away or new.
    pub fn heard_since(&mut self, sequence: Option<u64>) {
        self.since = sequence;
    }

    /// Remembers a cancellation. True if there were too many: they are forgotten, and what was heard must be determined
    /// again.
    pub fn hear(&mut self, tenant: &Tenant, job: &JobId) -> bool {
        let is_full = self.heard.len() >= MOST;
        if is_full {
            self.heard.clear();
            self.since = None;
        }
        self.heard.insert((tenant.clone(), job.clone()));
        is_full
    }

    /// False if the job with this sequence in the stream `jobs` is certainly not cancelled.
    pub fn may_concern(&self, tenant: &Tenant, job: &JobId, sequence: u64) -> bool {
        self.since.is_none_or(|since| sequence <= since) || self.heard.contains(&(tenant.clone(), job.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: &str) -> (Tenant, JobId) {
        (Tenant::default(), id.parse().expect("an id"))
    }

    fn may_concern(cancels: &HeardCancels, id: &str, sequence: u64) -> bool {
        let (tenant, job) = job(id);
        cancels.may_concern(&tenant, &job, sequence)
    }

    #[test]
    fn job_that_was_queued_before_the_worker_listened_may_be_cancelled() {
        let mut cancels = HeardCancels::default();
        assert!(may_concern(&cancels, "a", 8));
        cancels.heard_since(Some(7));
        assert!(may_concern(&cancels, "a", 7) && !may_concern(&cancels, "a", 8));
        cancels.heard_since(None);
        assert!(may_concern(&cancels, "a", 9));
    }

    #[test]
    fn cancellation_that_was_heard_may_concern_its_job_alone() {
        let mut cancels = HeardCancels::default();
        cancels.heard_since(Some(7));
        let (tenant, id) = job("a");
        assert!(!cancels.hear(&tenant, &id));
        assert!(may_concern(&cancels, "a", 8) && !may_concern(&cancels, "b", 8));
        assert!(cancels.may_concern(&tenant, &id, 8));
        assert!(!cancels.may_concern(&"other".parse().expect("a name"), &id, 8), "the job of another tenant");
    }

    #[test]
    fn too_many_cancellations_are_forgotten_and_every_job_may_be_cancelled() {
        let mut cancels = HeardCancels::default();
        cancels.heard_since(Some(0));
        let mut is_full = false;
        for number in 0..=MOST {
            let (tenant, id) = job(&format!("job-{number}"));
            is_full = cancels.hear(&tenant, &id);
        }
        assert!(is_full && cancels.heard.len() == 1);
        assert!(may_concern(&cancels, "job-0", 1), "it was heard and forgotten");
    }
}
