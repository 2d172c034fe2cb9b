//! Running jobs as heartbeats name them, taken from the fleet before a task reads the queue.

use std::collections::HashMap;

use rbee_nats::flow_of;
use rbee_schema::{JobFlow, JobId, ModelName, Tenant};

use crate::decide::{fleet::Fleet, position::Pace, queue::Queue};

/// Jobs that heartbeats name, and the pace of each model that answers jobs.
pub(super) struct Running {
    /// The worker of each job as `HIVE/WORKER`.
    workers: HashMap<(Tenant, JobId), String>,
    /// Number of running jobs of each flow.
    flows: HashMap<(ModelName, JobFlow), u64>,
    paces: HashMap<ModelName, Pace>,
}

impl Running {
    pub(super) fn of(fleet: &Fleet) -> Self {
        let (mut workers, mut flows, mut paces) = (HashMap::new(), HashMap::new(), HashMap::new());
        for ((hive, name), worker) in fleet.workers() {
            let model = &worker.record.model;
            if worker.is_ready() {
                paces.entry(model.clone()).or_insert_with(|| pace(fleet, model));
            }
            for job in worker.jobs.iter() {
                workers.insert((job.tenant.clone(), job.job.clone()), format!("{hive}/{name}"));
                if let Some(flow) = flow_of(job) {
                    *flows.entry((model.clone(), flow)).or_default() += 1;
                }
            }
        }
        Self { workers, flows, paces }
    }

    /// Worker that runs a job, as `HIVE/WORKER`.
    pub(super) fn worker_of(&self, tenant: &Tenant, job: &JobId) -> Option<&String> {
        self.workers.get(&(tenant.clone(), job.clone()))
    }

    /// Number of running jobs of a flow.
    pub(super) fn of_flow(&self, model: &ModelName, flow: &JobFlow) -> u64 {
        self.flows.get(&(model.clone(), flow.clone())).copied().unwrap_or(0)
    }

    /// Pace at which a model answers.
    pub(super) fn pace(&self, model: &ModelName) -> Pace {
        self.paces.get(model).copied().unwrap_or_default()
    }
}

/// Pace at which a model answers: the slots of its ready workers, and the time of its recent answers.
pub(super) fn pace(fleet: &Fleet, model: &ModelName) -> Pace {
    let ready = fleet.serving(model).filter(|(_, worker)| worker.is_ready());
    let slots = ready.map(|(_, worker)| u64::from(worker.record.slots)).sum();
    Pace { slots, answer_time: fleet.queue(model).and_then(Queue::answer_time) }
}
