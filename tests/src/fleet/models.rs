//! Models, jobs and workers of a fleet.

use rbee_nats::{OutputReader, Registry, Submission};
use rbee_schema::{
    JobClass, JobId, ModelName, ModelReference, ModelSpec, Replicas, Tenant, WorkerPhase,
    api::{Models, Status, Worker, Workers},
};

use super::{instance::Fleet, processes::signal};
use crate::wait::{PATIENCE, eventually};

impl Fleet {
    /// Declares a model of the mock engine.
    ///
    /// # Panics
    /// When the server does not store the declaration.
    pub async fn serve_mock(&self, name: &str, options: &str, min: u32, max: u32) {
        let replicas = Replicas { min, max };
        self.serve(name, ModelSpec { replicas, ..ModelSpec::new(ModelReference::Mock(options.to_owned())) }).await;
    }

    /// Declares a model.
    ///
    /// # Panics
    /// When the server does not store the declaration.
    pub async fn serve(&self, name: &str, spec: ModelSpec) {
        Registry::models(&self.bus).put(name, &spec).await.expect("the server answers");
    }

    /// Submits a job and subscribes to its output.
    ///
    /// # Panics
    /// When the job is not accepted.
    pub async fn submit(&self, model: &str, body: serde_json::Value) -> (JobId, OutputReader) {
        let job = JobId::generate();
        let output = self.bus.read_output(&Tenant::default(), &job).await.expect("the server answers");
        let submission = Submission {
            model: model.parse::<ModelName>().expect("a name of a test is valid"),
            class: JobClass::Interactive,
            tenant: Tenant::default(),
            job: job.clone(),
            body: body.to_string().into(),
        };
        self.bus.submit(submission).await.expect("accepted");
        (job, output)
    }

    /// The status of the fleet as the queen reports it; `None` where no queen answers.
    pub async fn status(&self) -> Option<Status> {
        self.bus.request("status", &()).await.ok()
    }

    /// All workers that the queen knows.
    ///
    /// # Panics
    /// When no queen answers.
    pub async fn workers(&self) -> Vec<Worker> {
        let reply: Workers = self.bus.request("workers", &()).await.expect("the queen answers");
        reply.workers
    }

    /// Waits until the queen knows the declarations of these models.
    ///
    /// # Panics
    /// When it does not in time.
    pub async fn declared(&self, models: &[&str]) {
        eventually(&format!("the queen knows the models {models:?}"), PATIENCE, async || {
            let reply: Models = self.bus.request("models", &()).await.expect("the queen answers");
            models.iter().all(|model| reply.models.iter().any(|known| known.name.as_str() == *model))
        })
        .await;
    }

    /// Waits until exactly `count` workers are ready, and returns them.
    ///
    /// # Panics
    /// When it is another number for too long.
    pub async fn ready(&self, count: usize) -> Vec<Worker> {
        let mut ready = Vec::new();
        eventually(&format!("{count} workers are ready"), PATIENCE, async || {
            ready = self.workers().await;
            ready.retain(|worker| worker.record.phase == WorkerPhase::Ready);
            ready.len() == count
        })
        .await;
        ready
    }

    /// Kills the process of a worker, as a crash would end it.
    ///
    /// # Panics
    /// When the worker has no process.
    pub fn kill(&self, worker: &Worker) {
        signal(worker.record.pid.expect("a worker that is killed has a process"), "KILL");
    }
}
