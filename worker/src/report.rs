//! The task that owns the list of running jobs. It sends heartbeats, which are the worker's claims on its jobs, decides which of
//! them run, and handles cancellations, control messages and heartbeats of the hive.

use std::{collections::HashMap, fs, time::Duration};

use futures::StreamExt as _;
use rbee_nats::{Bus, BusError, Message, Subject, Subscriber};
use rbee_schema::{HiveName, JobInFlight, ModelName, WorkerControl, WorkerHeartbeat, WorkerName, WorkerSettings};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    blocked::BlockedJobs,
    decide::turns::{Change, Turns},
    engine_thread::EngineThread,
    fatal::end_process_if_it_panics,
};

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

/// Sources of a heartbeat's figures about the progress of jobs.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) engine: EngineThread,
    pub(crate) blocked: BlockedJobs,
}

/// Handle of the reporting task; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Reporter {
    requests: mpsc::Sender<Request>,
    are_open: watch::Receiver<bool>,
}

/// A claim on a delivery of a job.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    requests: mpsc::Sender<Request>,
    /// Acknowledgement subject of the delivery. A job may be delivered again to this worker while an earlier delivery ends.
    key: String,
    are_open: watch::Receiver<bool>,
    /// Cancelled when a client cancels the job.
    pub(crate) cancelled: CancellationToken,
}

/// Signals to a claimed job.
#[derive(Debug, Clone)]
struct Signals {
    /// Cancelled when a client cancels the job.
    cancelled: CancellationToken,
    /// Cancelled when the job must return to the queue.
    hand_back: CancellationToken,
}

#[derive(Debug)]
enum Request {
    /// A claim on a job that waits for its turn.
    Claim(JobInFlight, Signals, oneshot::Sender<()>),
    /// A claim on a job that runs together with others. The answer is false if it may not.
    ClaimTogether(JobInFlight, Signals, oneshot::Sender<bool>),
    /// A claimed job is to run together with others. The answer is false if it may not.
    Join(String, oneshot::Sender<bool>),
    /// A claimed job is to run alone. The answer comes when it may.
    RunAlone(String, oneshot::Sender<()>),
    /// A job that runs alone may have company.
    EndAlone(String),
    Release(String, oneshot::Sender<()>),
}

impl Reporter {
    /// Claims a job that waits for its turn. When this returns, the claim has left this process, so that a hive that reaps this
    /// worker knows of the job. `hand_back` is cancelled when the job must make way for one that runs alone.
    pub(crate) async fn claim(&self, job: JobInFlight, hand_back: CancellationToken) -> Claim {
        let (claim, signals) = self.new_claim(&job, hand_back);
        ask(&self.requests, |reply| Request::Claim(job, signals, reply)).await;
        claim
    }

    /// Claims a job that runs at once, together with others. `None` if another job runs alone or waits for it.
    pub(crate) async fn claim_together(&self, job: JobInFlight, hand_back: CancellationToken) -> Option<Claim> {
        let (claim, signals) = self.new_claim(&job, hand_back);
        let joined = ask(&self.requests, |reply| Request::ClaimTogether(job, signals, reply)).await;
        joined.unwrap_or(false).then_some(claim)
    }

    /// True while no job runs alone or waits for it, so that further jobs may start.
    pub(crate) fn are_open(&self) -> watch::Receiver<bool> {
        self.are_open.clone()
    }

    fn new_claim(&self, job: &JobInFlight, hand_back: CancellationToken) -> (Claim, Signals) {
        let cancelled = CancellationToken::new();
        let (requests, are_open) = (self.requests.clone(), self.are_open.clone());
        let claim = Claim { requests, key: job.ack.clone(), are_open, cancelled: cancelled.clone() };
        (claim, Signals { cancelled, hand_back })
    }
}

impl Claim {
    /// Lets the job run together with others. False if another job runs alone or waits for it.
    pub(crate) async fn join(&self) -> bool {
        ask(&self.requests, |reply| Request::Join(self.key.clone(), reply)).await.unwrap_or(false)
    }

    /// Waits until the job runs alone.
    pub(crate) async fn run_alone(&self) {
        ask(&self.requests, |reply| Request::RunAlone(self.key.clone(), reply)).await;
    }

    /// Lets other jobs run beside this one again.
    pub(crate) async fn end_alone(&self) {
        let _ = self.requests.send(Request::EndAlone(self.key.clone())).await;
    }

    /// True while a job of this worker runs alone or waits for it.
    pub(crate) fn is_other_alone(&self) -> bool {
        !*self.are_open.borrow()
    }

    /// Releases the claim. When this returns, the release has left this process, so that a hive that reaps this worker does not
    /// return to the queue what the worker itself has returned.
    pub(crate) async fn release(self) {
        ask(&self.requests, |reply| Request::Release(self.key.clone(), reply)).await;
    }
}

/// Sends a request and waits for its answer. `None` if the task has ended, which ends the process.
async fn ask<T>(requests: &mpsc::Sender<Request>, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
    let (reply, answer) = oneshot::channel();
    requests.send(request(reply)).await.ok()?;
    answer.await.ok()
}

struct Task {
    bus: Bus,
    identity: Identity,
    /// Heartbeat interval.
    beat: Duration,
    /// Maximum time without a heartbeat of the hive. Then the worker drains.
    grace: Duration,
    progress: Progress,
    drain: CancellationToken,
    /// Claimed jobs by the acknowledgement subject of their delivery.
    jobs: HashMap<String, ClaimedJob>,
    turns: Turns,
    are_open: watch::Sender<bool>,
}

struct ClaimedJob {
    job: JobInFlight,
    signals: Signals,
    /// Answered when the job may run alone.
    runs_alone: Option<oneshot::Sender<()>>,
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
    progress: Progress,
    drain: CancellationToken,
) -> Result<Reporter, BusError> {
    let hive_beats = bus.subscribe(bus.subject(&Subject::HiveHeartbeat(identity.hive.clone()))).await?;
    let control = Subject::WorkerControl(identity.hive.clone(), identity.worker.clone());
    let control = bus.subscribe(bus.subject(&control)).await?;
    let cancellations = bus.subscribe(bus.namespace().all_cancels()).await?;
    // A slot makes one request at a time: twice as many leave room for those of jobs that just ended.
    let (sender, requests) = mpsc::channel(identity.slots.max(1) as usize * 2);
    let WorkerSettings { beat, grace, .. } = *settings;
    let (open_sender, are_open) = watch::channel(true);
    let task = Task {
        bus: bus.clone(),
        identity,
        beat,
        grace,
        progress,
        drain,
        jobs: HashMap::new(),
        turns: Turns::default(),
        are_open: open_sender,
    };
    tokio::spawn(end_process_if_it_panics(
        "report to the hive",
        task.run(Inbox { requests, cancellations, control, hive_beats }),
    ));
    Ok(Reporter { requests: sender, are_open })
}

impl Task {
    async fn run(mut self, mut inbox: Inbox) {
        let mut beat = interval(self.beat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut online = self.bus.online();
        let mut hive_lost = Instant::now() + self.grace;
        loop {
            let is_online = *online.borrow_and_update();
            tokio::select! {
                request = inbox.requests.recv() => match request {
                    Some(request) => self.handle_request(request).await,
                    None => return,
                },
                Some(message) = inbox.cancellations.next() => self.handle_cancellation(&message),
                Some(message) = inbox.control.next() => self.handle_control(&message),
                Some(_) = inbox.hive_beats.next() => hive_lost = Instant::now() + self.grace,
                _ = beat.tick() => self.send_beat().await,
                // While this worker is cut off from the bus, or stood still, it could receive no heartbeat.
                Ok(()) = online.changed() => hive_lost = Instant::now() + self.grace,
                () = sleep_until(hive_lost), if is_online && !self.drain.is_cancelled() => {
                    if Instant::now() >= hive_lost + self.beat {
                        hive_lost = Instant::now() + self.grace;
                        continue;
                    }
                    let (hive, grace) = (&self.identity.hive, self.grace);
                    warn!(%hive, ?grace, "the hive has sent no heartbeat for the grace period; this worker drains");
                    self.drain.cancel();
                }
            }
        }
    }

    async fn handle_request(&mut self, request: Request) {
        match request {
            Request::Claim(job, signals, reply) => {
                self.insert(job, signals);
                self.send_beat().await;
                let _ = reply.send(());
            }
            Request::ClaimTogether(job, signals, reply) => {
                let key = self.insert(job, signals);
                let may_run = self.turns.join(&key);
                if may_run {
                    self.send_beat().await;
                } else {
                    self.remove(&key).await;
                }
                let _ = reply.send(may_run);
            }
            Request::Join(key, reply) => {
                let may_run = self.turns.join(&key);
                if may_run {
                    self.send_beat().await;
                }
                let _ = reply.send(may_run);
            }
            Request::RunAlone(key, reply) => {
                if let Some(claimed) = self.jobs.get_mut(&key) {
                    claimed.runs_alone = Some(reply);
                    let change = self.turns.ask_alone(&key);
                    self.follow(change).await;
                }
            }
            Request::EndAlone(key) => {
                let change = self.turns.end_alone(&key);
                self.follow(change).await;
            }
            Request::Release(key, reply) => {
                self.remove(&key).await;
                self.send_beat().await;
                let _ = reply.send(());
            }
        }
    }

    fn insert(&mut self, job: JobInFlight, signals: Signals) -> String {
        let key = job.ack.clone();
        self.turns.claim(&key);
        self.jobs.insert(key.clone(), ClaimedJob { job, signals, runs_alone: None });
        key
    }

    async fn remove(&mut self, key: &str) {
        self.jobs.remove(key);
        let change = self.turns.release(key);
        self.follow(change).await;
    }

    /// Carries out a change of turns. A job runs alone from the heartbeat on that says so.
    async fn follow(&mut self, Change { begins, make_way }: Change) {
        self.are_open.send_replace(self.turns.are_open());
        for key in make_way {
            if let Some(claimed) = self.jobs.get(&key) {
                info!(job = %claimed.job.job, "the job returns to the queue: another one must run alone");
                claimed.signals.hand_back.cancel();
            }
        }
        if let Some(key) = begins {
            self.send_beat().await;
            if let Some(begun) = self.jobs.get_mut(&key).and_then(|claimed| claimed.runs_alone.take()) {
                // The job may be cancelled by now. Then it is released next.
                let _ = begun.send(());
            }
        }
    }

    async fn send_beat(&self) {
        let Identity { hive, worker, model, epoch, slots } = &self.identity;
        let beat = WorkerHeartbeat {
            model: model.clone(),
            epoch: *epoch,
            slots: *slots,
            jobs: self.jobs.iter().map(|(key, claimed)| self.in_flight(key, &claimed.job)).collect(),
            tokens: self.progress.engine.tokens_made(),
            steps: self.progress.engine.steps_made(),
            blocked: self.progress.blocked.count(),
            memory_bytes: resident_memory().unwrap_or(0),
            cache: self.progress.engine.stats().cache(),
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

    fn in_flight(&self, key: &str, job: &JobInFlight) -> JobInFlight {
        JobInFlight { waits: self.turns.waits(key), ..job.clone() }
    }

    fn handle_cancellation(&self, message: &Message) {
        let Some(Subject::Cancel(tenant, job)) = self.bus.parse(&message.subject) else { return };
        let claimed = self.jobs.values().filter(|claimed| claimed.job.tenant == tenant && claimed.job.job == job);
        claimed.for_each(|claimed| claimed.signals.cancelled.cancel());
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
