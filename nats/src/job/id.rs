//! Ids and traces of jobs that were published without them.

use rbee_schema::{JobId, Tenant};

use crate::{
    Bus,
    trace::{TraceContext, trace_of_job},
};

/// Header that holds the id of a job.
pub(super) const MESSAGE_ID: &str = "Nats-Msg-Id";

/// Id of a job: its message id if that is a valid name, else its sequence in the stream.
pub(super) fn job_id(message_id: Option<&str>, sequence: u64) -> JobId {
    message_id.and_then(|id| id.parse().ok()).unwrap_or_else(|| JobId::from_sequence(sequence))
}

impl Bus {
    /// Trace of a job that was published without one. It is derived from the job's id, so that every role gets the same.
    pub fn trace_of(&self, tenant: &Tenant, job: &JobId) -> TraceContext {
        trace_of_job(self.namespace(), tenant, job)
    }
}
