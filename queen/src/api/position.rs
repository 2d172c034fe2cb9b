//! Places of jobs in the queue. The server counts the jobs of each flow, so that the cost does not depend on their number.

use rbee_nats::{Bus, BusError};
use rbee_schema::{JobFlow, ModelName, api::QueuePosition};

use super::running::Running;
use crate::decide::position::{expected_wait, jobs_before};

/// Flows of one model, each with the number of its waiting and running jobs.
pub(super) struct Flows<'a> {
    running: &'a Running,
    model: ModelName,
    flows: Vec<(JobFlow, u64)>,
}

impl<'a> Flows<'a> {
    pub(super) async fn read(bus: &Bus, running: &'a Running, model: ModelName) -> Result<Self, BusError> {
        let flows = bus.job_flows(&model).await?;
        Ok(Self { running, model, flows })
    }

    /// Number of waiting jobs of a flow before the one with this sequence.
    pub(super) async fn ahead(&self, bus: &Bus, flow: &JobFlow, sequence: u64) -> Result<u64, BusError> {
        let behind = bus.jobs_behind(&self.model, flow, sequence).await?;
        let depth = self.flows.iter().find(|(found, _)| found == flow).map_or(0, |(_, depth)| *depth);
        // Running jobs are in the queue until they are answered, and were queued before.
        Ok(depth.saturating_sub(behind.saturating_add(1)).saturating_sub(self.running.of_flow(&self.model, flow)))
    }

    /// Place of a job with this number of waiting jobs before it in its flow.
    pub(super) fn position(&self, flow: &JobFlow, ahead: u64) -> QueuePosition {
        let waits = |(flow, depth): &(JobFlow, u64)| {
            (flow.clone(), depth.saturating_sub(self.running.of_flow(&self.model, flow)))
        };
        let waiting: Vec<(JobFlow, u64)> = self.flows.iter().map(waits).collect();
        let wait = expected_wait(jobs_before(ahead, flow, &waiting), self.running.pace(&self.model));
        let expected_wait_ms = wait.and_then(|wait| u64::try_from(wait.as_millis()).ok());
        QueuePosition { ahead, expected_wait_ms }
    }
}
