//! The task that owns the list of running jobs. It sends heartbeats, which are the worker's claims on its jobs, and handles
//! cancellations, control messages and heartbeats of the hive.

use std::{collections::HashMap, fs, time::Duration};

use futures::StreamExt as _;
use rbee_nats::{Bus, BusError, Message, Subject, Subscriber};
use rbee_schema::{
    HiveName, JobId, JobInFlight, ModelName, Tenant, WorkerControl, WorkerHeartbeat, WorkerName, WorkerSettings,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::engine_thread::EngineThread;

/// Identity of a worker process.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) hive: HiveName,
    pub(crate) worker: WorkerName,
    pub(crate) model: ModelName,
    /// Run number of the worker.
    pub(crate) epoch: u64,
    pub(crate) slots: u32,
}

/// Handle of the reporting task; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Reporter {
    requests: mpsc::Sender<Request>,
}

enum Request {
    Claim(JobInFlight, oneshot::Sender<CancellationToken>),
    Release(JobInFlight, oneshot::Sender<()>),
}

impl Reporter {
    /// Claims a job. When this returns, the claim has left this process, so that a hive that reaps this worker knows of the
    /// job. The returned token is cancelled when a client cancels the job.
    pub(crate) async fn claim(&self, job: JobInFlight) -> CancellationToken {
        let (reply, claimed) = oneshot::channel();
        let _ = self.requests.send(Request::Claim(job, reply)).await;
        claimed.await.unwrap_or_default()
    }

    /// Releases the claim on a job. When this returns, the release has left this process, so that a hive that reaps this
    /// worker does not return to the queue what the worker itself has returned.
    pub(crate) async fn release(&self, job: JobInFlight) {
        let (reply, released) = oneshot::channel();
        let _ = self.requests.send(Request::Release(job, reply)).await;
        let _ = released.await;
    }
}

struct Task {
    bus: Bus,
    identity: Identity,
    /// Heartbeat interval.
    beat: Duration,
    /// Maximum time without a heartbeat of the hive. Then the worker drains.
    grace: Duration,
    engine: EngineThread,
    drain: CancellationToken,
    jobs: HashMap<(Tenant, JobId), (JobInFlight, CancellationToken)>,
}

/// Channels and subscriptions from which the task receives.
struct Inbox {
    requests: mpsc::Receiver<Request>,
    cancellations: Subscriber,
    control: Subscriber,
    hive_beats: Subscriber,
}

/// Starts the task. It cancels `drain` when a control message says so, or when the hive has sent no heartbeat for the grace
/// period.
///
/// # Errors
/// If the subscriptions cannot be made.
pub(crate) async fn start(
    bus: &Bus,
    identity: Identity,
    settings: &WorkerSettings,
    engine: EngineThread,
    drain: CancellationToken,
) -> Result<Reporter, BusError> {
    let hive_beats = bus.subscribe(bus.subject(&Subject::HiveHeartbeat(identity.hive.clone()))).await?;
    let control = Subject::WorkerControl(identity.hive.clone(), identity.worker.clone());
    let control = bus.subscribe(bus.subject(&control)).await?;
    let cancellations = bus.subscribe(bus.namespace().all_cancels()).await?;
    // A slot makes one request at a time: twice as many leave room for those of jobs that just ended.
    let (sender, requests) = mpsc::channel(identity.slots.max(1) as usize * 2);
    let WorkerSettings { beat, grace, .. } = *settings;
    let task = Task { bus: bus.clone(), identity, beat, grace, engine, drain, jobs: HashMap::new() };
    tokio::spawn(task.run(Inbox { requests, cancellations, control, hive_beats }));
    Ok(Reporter { requests: sender })
}

impl Task {
    async fn run(mut self, mut inbox: Inbox) {
        let mut beat = interval(self.beat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut hive_lost = Instant::now() + self.grace;
        loop {
            tokio::select! {
                request = inbox.requests.recv() => match request {
                    Some(request) => self.handle_request(request).await,
                    None => return,
                },
                Some(message) = inbox.cancellations.next() => self.handle_cancellation(&message),
                Some(message) = inbox.control.next() => self.handle_control(&message),
                Some(_) = inbox.hive_beats.next() => hive_lost = Instant::now() + self.grace,
                _ = beat.tick() => self.send_beat().await,
                () = sleep_until(hive_lost), if !self.drain.is_cancelled() => {
                    let (hive, grace) = (&self.identity.hive, self.grace);
                    warn!(%hive, ?grace, "the hive has sent no heartbeat for the grace period; this worker drains");
                    self.drain.cancel();
                }
            }
        }
    }

    async fn handle_request(&mut self, request: Request) {
        match request {
            Request::Claim(job, reply) => {
                let token = CancellationToken::new();
                self.jobs.insert((job.tenant.clone(), job.job.clone()), (job, token.clone()));
                self.send_beat().await;
                let _ = reply.send(token);
            }
            Request::Release(job, reply) => {
                self.jobs.remove(&(job.tenant, job.job));
                self.send_beat().await;
                let _ = reply.send(());
            }
        }
    }

    async fn send_beat(&self) {
        let Identity { hive, worker, model, epoch, slots } = &self.identity;
        let beat = WorkerHeartbeat {
            model: model.clone(),
            epoch: *epoch,
            slots: *slots,
            jobs: self.jobs.values().map(|(job, _)| job.clone()).collect(),
            tokens: self.engine.tokens_made(),
            steps: self.engine.steps_made(),
            memory_bytes: resident_memory().unwrap_or(0),
            cache: self.engine.stats().cache(),
        };
        crate::metrics::jobs_running(beat.jobs.len());
        if let Some(cache) = &beat.cache {
            crate::metrics::cache(cache);
        }
        let sent = self.bus.publish(&Subject::WorkerHeartbeat(hive.clone(), worker.clone()), &beat).await;
        if let Err(error) = sent.and(self.bus.flush().await) {
            debug!(%error, "failed to send a heartbeat");
        }
    }

    fn handle_cancellation(&self, message: &Message) {
        let Some(Subject::Cancel(tenant, job)) = self.bus.parse(&message.subject) else { return };
        if let Some((_, token)) = self.jobs.get(&(tenant, job)) {
            token.cancel();
        }
    }

    fn handle_control(&self, message: &Message) {
        match serde_json::from_slice(&message.payload) {
            Ok(WorkerControl::Drain) => {
                info!("received the command to drain");
                self.drain.cancel();
            }
            Err(error) => warn!(%error, "ignored a control message that cannot be parsed"),
        }
    }
}

/// Resident memory of this process in bytes.
fn resident_memory() -> Option<u64> {
    resident_bytes(&fs::read_to_string("/proc/self/status").ok()?)
}

/// The field `VmRSS` of `/proc/<pid>/status` (proc_pid_status(5)), in bytes.
fn resident_bytes(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_the_field_of_the_status() {
        let status = "Name:\trbee-worker\nVmHWM:\t   20000 kB\nVmRSS:\t   12345 kB\nRssAnon:\t    8000 kB\n";
        assert_eq!(resident_bytes(status), Some(12_345 * 1024));
        assert_eq!(resident_bytes("Name:\tkthread\n"), None);
        assert!(resident_memory().is_some_and(|bytes| bytes > 1 << 20), "this process has a megabyte");
    }
}
