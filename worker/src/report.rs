//! The task that owns what this worker runs: it sends heartbeats, which are the worker's claim on its jobs, and hears
//! what concerns it: cancellations, control, and whether its hive is still there.

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

/// Who a worker is.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) hive: HiveName,
    pub(crate) worker: WorkerName,
    pub(crate) model: ModelName,
    pub(crate) epoch: u64,
    pub(crate) slots: u32,
}

/// A way to the reporting task; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Reporter {
    sender: mpsc::Sender<Word>,
}

enum Word {
    Taken(JobInFlight, oneshot::Sender<CancellationToken>),
    Settled(JobInFlight, oneshot::Sender<()>),
}

impl Reporter {
    /// Claims a job. When this returns, the claim has left this process, so that a hive that buries us knows of it.
    /// The token is cancelled when somebody cancels the job.
    pub(crate) async fn take(&self, job: JobInFlight) -> CancellationToken {
        let (sender, told) = oneshot::channel();
        let _ = self.sender.send(Word::Taken(job, sender)).await;
        told.await.unwrap_or_default()
    }

    /// A job is no longer ours. When this returns, that has left this process: a hive that buries us does not give back
    /// what we have given back ourselves.
    pub(crate) async fn settled(&self, job: JobInFlight) {
        let (sender, told) = oneshot::channel();
        let _ = self.sender.send(Word::Settled(job, sender)).await;
        let _ = told.await;
    }
}

struct Task {
    bus: Bus,
    identity: Identity,
    /// How often it beats.
    beat: Duration,
    /// How long its hive may be gone.
    grace: Duration,
    engine: EngineThread,
    drain: CancellationToken,
    jobs: HashMap<(Tenant, JobId), (JobInFlight, CancellationToken)>,
}

/// Starts the task. `drain` is cancelled when the worker is told to drain, or its hive is gone for too long.
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
    let cancels = bus.subscribe(bus.namespace().all_cancels()).await?;
    let (sender, words) = mpsc::channel(identity.slots.max(1) as usize * 2);
    let WorkerSettings { beat, grace, .. } = *settings;
    let task = Task { bus: bus.clone(), identity, beat, grace, engine, drain, jobs: HashMap::new() };
    tokio::spawn(task.run(words, cancels, control, hive_beats));
    Ok(Reporter { sender })
}

impl Task {
    async fn run(
        mut self,
        mut words: mpsc::Receiver<Word>,
        mut cancels: Subscriber,
        mut control: Subscriber,
        mut hive_beats: Subscriber,
    ) {
        let mut beat = interval(self.beat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut hive_gone = Instant::now() + self.grace;
        loop {
            tokio::select! {
                word = words.recv() => match word {
                    Some(word) => self.hear(word).await,
                    None => return,
                },
                Some(message) = cancels.next() => self.cancel(&message),
                Some(message) = control.next() => self.obey(&message),
                Some(_) = hive_beats.next() => hive_gone = Instant::now() + self.grace,
                _ = beat.tick() => self.beat().await,
                () = sleep_until(hive_gone), if !self.drain.is_cancelled() => {
                    warn!(hive = %self.identity.hive, "the hive is gone for too long; this worker ends");
                    self.drain.cancel();
                }
            }
        }
    }

    async fn hear(&mut self, word: Word) {
        match word {
            Word::Taken(job, told) => {
                let token = CancellationToken::new();
                self.jobs.insert((job.tenant.clone(), job.job.clone()), (job, token.clone()));
                self.beat().await;
                let _ = told.send(token);
            }
            Word::Settled(job, told) => {
                self.jobs.remove(&(job.tenant, job.job));
                self.beat().await;
                let _ = told.send(());
            }
        }
    }

    async fn beat(&self) {
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
        let told = self.bus.publish(&Subject::WorkerHeartbeat(hive.clone(), worker.clone()), &beat).await;
        if let Err(error) = told.and(self.bus.flush().await) {
            debug!(%error, "a heartbeat is lost");
        }
    }

    fn cancel(&self, message: &Message) {
        let Some(Subject::Cancel(tenant, job)) = self.bus.parse(&message.subject) else { return };
        if let Some((_, token)) = self.jobs.get(&(tenant, job)) {
            token.cancel();
        }
    }

    fn obey(&self, message: &Message) {
        match serde_json::from_slice(&message.payload) {
            Ok(WorkerControl::Drain) => {
                info!("told to drain");
                self.drain.cancel();
            }
            Err(error) => warn!(%error, "a control message cannot be read"),
        }
    }
}

/// Bytes of this process that are in memory: the second field of `/proc/self/statm` (proc(5)), in pages.
fn resident_memory() -> Option<u64> {
    let fields = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = fields.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
