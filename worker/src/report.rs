//! The task that owns the list of running jobs. It sends heartbeats, which are the worker's claims on its jobs, decides which of
//! them run, and handles cancellations, control messages and heartbeats of the hive.

use std::{collections::HashMap, fs, time::Duration};

use futures::StreamExt as _;
use rbee_nats::{Bus, BusError, Message, Subject, Subscriber};
use rbee_schema::{HiveName, JobInFlight, ModelName, WorkerControl, WorkerHeartbeat, WorkerName, WorkerSettings};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    blocked::BlockedJobs,
    decide::{
        heard_cancels::HeardCancels,
        turns::{Change, Turns},
    },
    engine_thread::EngineThread,
    fatal::end_process_if_it_panics,
};

/// Maximum number of requests that one heartbeat tells of.
const TOGETHER: usize = 256;

/// Time for which an acknowledged job may stay in the heartbeats: the next claim usually sends one sooner.
const FORGOTTEN: Duration = Duration::from_millis(2);

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
    /// True if the job may have been cancelled before it was claimed, so that the stored cancellation must be read.
    pub(crate) may_be_cancelled: bool,
}

/// Signals to a claimed job.
#[derive(Debug, Clone)]
struct Signals {
    /// Cancelled when a client cancels the job.
    cancelled: CancellationToken,
    /// Cancelled when the job must return to the queue.
    hand_back: CancellationToken,
}

/// Where the answer to a request goes.
type Reply = oneshot::Sender<Answer>;

/// Answer to a request.
#[derive(Debug, Clone, Copy, Default)]
struct Answer {
    /// True if what was requested may happen.
    may: bool,
    /// True if a cancellation of the job may be stored.
    may_be_cancelled: bool,
}

#[derive(Debug)]
enum Request {
    /// A claim on a job that waits for its turn.
    Claim(JobInFlight, Signals, Reply),
    /// A claim on a job that runs together with others, with its sequence in the stream `jobs`.
    ClaimTogether(JobInFlight, u64, Signals, Reply),
    /// A claimed job is to run together with others.
    Join(String, Reply),
    /// A claimed job is to run alone. The answer comes when it may.
    RunAlone(String, Reply),
    /// A job that runs alone may have company.
    EndAlone(String),
    /// A job has returned to the queue.
    Release(String, Reply),
    /// A job was acknowledged.
    Forget(String),
}

impl Reporter {
    /// Claims a job that waits for its turn. When this returns, the claim has left this process, so that a hive that reaps this
    /// worker knows of the job. `hand_back` is cancelled when the job must make way for one that runs alone.
    pub(crate) async fn claim(&self, job: JobInFlight, hand_back: CancellationToken) -> Claim {
        let (claim, signals) = self.new_claim(&job, hand_back);
        ask(&self.requests, |reply| Request::Claim(job, signals, reply)).await;
        claim
    }

    /// Claims a job that runs at once, together with others. `sequence` is that of the job in the stream `jobs`. `None` if another
    /// job runs alone or waits for it.
    pub(crate) async fn claim_together(
        &self,
        job: JobInFlight,
        sequence: u64,
        hand_back: CancellationToken,
    ) -> Option<Claim> {
        let (mut claim, signals) = self.new_claim(&job, hand_back);
        let request = |reply| Request::ClaimTogether(job, sequence, signals, reply);
        let Answer { may, may_be_cancelled } = ask(&self.requests, request).await;
        claim.may_be_cancelled = may_be_cancelled;
        may.then_some(claim)
    }

    /// True while no job runs alone or waits for it, so that further jobs may start.
    pub(crate) fn are_open(&self) -> watch::Receiver<bool> {
        self.are_open.clone()
    }

    fn new_claim(&self, job: &JobInFlight, hand_back: CancellationToken) -> (Claim, Signals) {
        let cancelled = CancellationToken::new();
        let (requests, key, are_open) = (self.requests.clone(), job.ack.clone(), self.are_open.clone());
        let claim = Claim { requests, key, are_open, cancelled: cancelled.clone(), may_be_cancelled: true };
        (claim, Signals { cancelled, hand_back })
    }
}

impl Claim {
    /// Lets the job run together with others. False if another job runs alone or waits for it.
    pub(crate) async fn join(&self) -> bool {
        ask(&self.requests, |reply| Request::Join(self.key.clone(), reply)).await.may
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

    /// Releases the claim on a job that has returned to the queue. When this returns, the release has left this process, so that
    /// a hive that reaps this worker does not return to the queue what the worker itself has returned.
    pub(crate) async fn release(self) {
        ask(&self.requests, |reply| Request::Release(self.key.clone(), reply)).await;
    }

    /// Releases the claim on a job that was acknowledged. A hive cannot return it to the queue, so nothing waits until the
    /// release has left this process.
    pub(crate) async fn forget(self) {
        let _ = self.requests.send(Request::Forget(self.key)).await;
    }
}

/// Sends a request and waits for its answer: no if the task has ended, which ends the process.
async fn ask(requests: &mpsc::Sender<Request>, request: impl FnOnce(Reply) -> Request) -> Answer {
    let (reply, answer) = oneshot::channel();
    match requests.send(request(reply)).await {
        Ok(()) => answer.await.unwrap_or_default(),
        Err(_) => Answer::default(),
    }
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
    /// Resident memory of this process in bytes, at the last regular heartbeat.
    memory: u64,
    /// Time at which a heartbeat without the jobs that were acknowledged is due.
    due: Option<Instant>,
    /// Answers that are sent after the next heartbeat.
    answers: Vec<(Reply, Answer)>,
    cancels: HeardCancels,
    /// Reads of the last sequence of the stream `jobs`. Each job after it was queued after this worker began to hear all
    /// cancellations.
    reads: JoinSet<Option<u64>>,
}

struct ClaimedJob {
    job: JobInFlight,
    signals: Signals,
    /// Answered when the job may run alone.
    runs_alone: Option<Reply>,
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
        memory: 0,
        due: None,
        answers: Vec::new(),
        cancels: HeardCancels::default(),
        reads: JoinSet::new(),
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
        let mut requests = Vec::new();
        self.hear_cancels();
        loop {
            let is_online = *online.borrow_and_update();
            let due = self.due;
            tokio::select! {
                received = inbox.requests.recv_many(&mut requests, TOGETHER) => {
                    if received == 0 {
                        return;
                    }
                    self.handle_requests(requests.drain(..)).await;
                }
                Some(message) = inbox.cancellations.next() => self.handle_cancellation(&message),
                Some(message) = inbox.control.next() => self.handle_control(&message),
                Some(_) = inbox.hive_beats.next() => hive_lost = Instant::now() + self.grace,
                _ = beat.tick() => {
                    self.memory = resident_memory().unwrap_or(0);
                    self.send_beat().await;
                }
                () = sleep_until(due.unwrap_or(hive_lost)), if due.is_some() => self.send_beat().await,
                // While this worker is cut off from the bus, or stood still, it could receive no heartbeat.
                Ok(()) = online.changed() => {
                    hive_lost = Instant::now() + self.grace;
                    self.hear_cancels();
                }
                Some(Ok(last)) = self.reads.join_next() => self.cancels.heard_since(last),
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

    /// Handles requests, and sends one heartbeat for all of them before they are answered.
    async fn handle_requests(&mut self, requests: impl Iterator<Item = Request>) {
        let mut changes_beat = false;
        for request in requests {
            changes_beat |= self.handle_request(request);
        }
        if changes_beat {
            self.send_beat().await;
        }
        for (reply, answer) in self.answers.drain(..) {
            // A job that is cancelled meanwhile does not wait for its answer. It is released next.
            let _ = reply.send(answer);
        }
    }

    /// Handles a request. True if a heartbeat must tell of it before it is answered.
    fn handle_request(&mut self, request: Request) -> bool {
        let (reply, may, changes_beat) = match request {
            Request::Claim(job, signals, reply) => {
                self.insert(job, signals);
                (reply, true, true)
            }
            Request::ClaimTogether(job, sequence, signals, reply) => {
                let may_be_cancelled = self.cancels.may_concern(&job.tenant, &job.job, sequence);
                let key = self.insert(job, signals);
                let may = self.turns.join(&key);
                self.answers.push((reply, Answer { may, may_be_cancelled }));
                return may || self.remove(&key);
            }
            Request::Join(key, reply) => {
                let may_run = self.turns.join(&key);
                (reply, may_run, may_run)
            }
            Request::RunAlone(key, reply) => {
                let Some(claimed) = self.jobs.get_mut(&key) else { return false };
                claimed.runs_alone = Some(reply);
                let change = self.turns.ask_alone(&key);
                return self.follow(change);
            }
            Request::EndAlone(key) => {
                let change = self.turns.end_alone(&key);
                return self.follow(change);
            }
            Request::Release(key, reply) => {
                self.remove(&key);
                (reply, true, true)
            }
            Request::Forget(key) => {
                self.due.get_or_insert_with(|| Instant::now() + FORGOTTEN);
                return self.remove(&key);
            }
        };
        self.answers.push((reply, Answer { may, may_be_cancelled: true }));
        changes_beat
    }

    fn insert(&mut self, job: JobInFlight, signals: Signals) -> String {
        let key = job.ack.clone();
        self.turns.claim(&key);
        self.jobs.insert(key.clone(), ClaimedJob { job, signals, runs_alone: None });
        key
    }

    fn remove(&mut self, key: &str) -> bool {
        self.jobs.remove(key);
        let change = self.turns.release(key);
        self.follow(change)
    }

    /// Carries out a change of turns. True if a job runs alone from now on: from the heartbeat on that says so.
    fn follow(&mut self, Change { begins, make_way }: Change) -> bool {
        let are_open = self.turns.are_open();
        self.are_open.send_if_modified(|before| std::mem::replace(before, are_open) != are_open);
        for key in make_way {
            if let Some(claimed) = self.jobs.get(&key) {
                info!(job = %claimed.job.job, "the job returns to the queue: another one must run alone");
                claimed.signals.hand_back.cancel();
            }
        }
        let begun = begins.and_then(|key| self.jobs.get_mut(&key)?.runs_alone.take());
        let has_begun = begun.is_some();
        self.answers.extend(begun.map(|reply| (reply, Answer { may: true, may_be_cancelled: true })));
        has_begun
    }

    async fn send_beat(&mut self) {
        self.due = None;
        let Identity { hive, worker, model, epoch, slots } = &self.identity;
        let beat = WorkerHeartbeat {
            model: model.clone(),
            epoch: *epoch,
            slots: *slots,
            jobs: self.jobs.iter().map(|(key, claimed)| self.in_flight(key, &claimed.job)).collect(),
            tokens: self.progress.engine.tokens_made(),
            steps: self.progress.engine.steps_made(),
            blocked: self.progress.blocked.count(),
            memory_bytes: self.memory,
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

    /// Cancellations are heard from now on, for all jobs that are queued later: the connection is new.
    fn hear_cancels(&mut self) {
        self.cancels.heard_since(None);
        // Dropping the reads under way discards what they have found.
        self.reads = JoinSet::new();
        if *self.bus.online().borrow() {
            let bus = self.bus.clone();
            self.reads.spawn(async move {
                // The server has the subscription, or has it again, when it answers.
                bus.round_trip().await.ok()?;
                bus.last_job().await.ok()
            });
        }
    }

    fn handle_cancellation(&mut self, message: &Message) {
        let Some(Subject::Cancel(tenant, job)) = self.bus.parse(&message.subject) else { return };
        if self.cancels.hear(&tenant, &job) {
            self.hear_cancels();
        }
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
