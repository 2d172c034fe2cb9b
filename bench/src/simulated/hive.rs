//! One simulated hive with its workers: their messages, and the times of these.

use std::{collections::BTreeMap, time::Duration};

use rbee_nats::{Bus, Outbox, Registry, Subject};
use rbee_schema::{
    ByteSize, Device, Event, ExitClass, FreeResources, HiveCommand, HiveHeartbeat, HiveName, HiveRecord, JobInFlight,
    LimitMethod, ModelKind, ModelName, ModelSpec, Protocol, WorkerEvent, WorkerHeartbeat, WorkerName, WorkerPhase,
    WorkerRecord,
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at, sleep_until},
};

use super::size::{Size, hive_name, model_name};

/// Heartbeat interval of real hives and workers.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Interval at which real hives renew their record.
const PRESENCE: Duration = Duration::from_secs(5);

/// Time to live of the record of a real hive.
const PRESENCE_TIME_TO_LIVE: Duration = Duration::from_secs(15);

/// Time that a simulated worker spends in each phase between two stable ones.
const STEP: Duration = Duration::from_millis(50);

/// Duration of a job.
const JOB: Duration = Duration::from_secs(1);

/// One worker in four runs a job all the time.
const BUSY: usize = 4;

/// The hives by name, each with the channel of its inputs.
pub(super) type Hives = BTreeMap<HiveName, mpsc::Sender<Input>>;

/// An input of a hive.
pub(super) enum Input {
    /// A command of a queen.
    Command(HiveCommand),
    /// A worker of the hive crashes and is started again.
    Crash,
    /// A worker of the hive takes a job, whose stream sequence is the last field.
    Job(ModelName, JobInFlight, u64),
}

pub(super) struct Hive {
    pub(super) name: HiveName,
    bus: Bus,
    outbox: Outbox,
    first_port: u16,
    workers: BTreeMap<WorkerName, Worker>,
    /// Future steps of workers, by time.
    schedule: BTreeMap<(Instant, u64), (WorkerName, Step)>,
    /// Number of inputs and steps so far, so that crashes rotate through the workers.
    turn: u64,
    ready_sender: mpsc::UnboundedSender<(WorkerName, Instant)>,
}

struct Worker {
    record: WorkerRecord,
    jobs: Vec<JobInFlight>,
    tokens: u64,
    /// True for a worker that a queen ordered.
    is_ordered: bool,
}

enum Step {
    Enter(WorkerPhase),
    Answered(JobInFlight, u64),
    Removed,
}

impl Hive {
    pub(super) fn new(
        number: usize,
        size: Size,
        bus: Bus,
        outbox: Outbox,
        ready_sender: mpsc::UnboundedSender<(WorkerName, Instant)>,
    ) -> Self {
        let name = hive_name(number);
        let worker = |index: usize| {
            let all = number * size.workers + index;
            let mut worker = Worker::new(model_name(all % size.models), size.declaration(), 8080 + index as u16);
            worker.record.phase = WorkerPhase::Ready;
            if index.is_multiple_of(BUSY) {
                worker.jobs.push(JobInFlight {
                    tenant: rbee_schema::Tenant::default(),
                    job: rbee_schema::JobId::generate(),
                    ack: format!(
                        "$JS.ACK.rbee_jobs.{}=interactive=default.1.{all}.{all}.1764072000000000000.0",
                        worker.record.model
                    ),
                    waits: false,
                    redelivery_ms: None,
                });
            }
            (WorkerName::from_lossy(&format!("{}-{index:08}", worker.record.model)), worker)
        };
        let workers = (0..size.workers).map(worker).collect();
        Self { name, bus, outbox, first_port: 8080, workers, schedule: BTreeMap::new(), turn: 0, ready_sender }
    }

    /// Writes the records of the hive and its workers.
    pub(super) fn write(&self) {
        self.write_presence();
        for name in self.workers.keys() {
            self.write_worker(name);
        }
    }

    /// Runs the hive. Its heartbeats come `phase` after those of the first hive, with those of its workers in between.
    pub(super) async fn run(mut self, mut inputs: mpsc::Receiver<Input>, phase: Duration) {
        let begin = Instant::now() + phase;
        let mut heartbeat = interval_at(begin, HEARTBEAT / (self.workers.len() as u32 + 1));
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut presence = interval_at(begin + phase * 4, PRESENCE);
        let mut last: Option<WorkerName> = None;
        loop {
            let due = self.schedule.first_key_value().map(|((due, _), _)| *due);
            tokio::select! {
                input = inputs.recv() => match input {
                    Some(input) => self.handle(input).await,
                    None => return,
                },
                _ = heartbeat.tick() => {
                    let next = match &last {
                        None => self.workers.keys().next(),
                        Some(before) => self.workers.range(before.clone()..).map(|(name, _)| name).find(|name| *name != before),
                    };
                    last = next.cloned();
                    match &last {
                        Some(worker) => self.worker_heartbeat(worker).await,
                        None => self.hive_heartbeat().await,
                    }
                }
                _ = presence.tick() => self.write_presence(),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.next_step().await,
            }
        }
    }

    async fn handle(&mut self, input: Input) {
        self.turn += 1;
        match input {
            Input::Command(HiveCommand::Spawn { worker, model, spec }) => {
                let port = self.first_port + self.workers.len() as u16;
                let new = Worker { is_ordered: true, ..Worker::new(model, spec, port) };
                self.workers.insert(worker.clone(), new);
                self.enter(&worker, WorkerPhase::Spawning);
                self.later(1, &worker, Step::Enter(WorkerPhase::Loading));
                self.later(2, &worker, Step::Enter(WorkerPhase::Ready));
            }
            Input::Command(HiveCommand::Stop { worker, .. }) if self.workers.contains_key(&worker) => {
                self.enter(&worker, WorkerPhase::Stopping);
                self.later(1, &worker, Step::Removed);
            }
            Input::Command(_) => {}
            Input::Crash => {
                let at = self.turn as usize % self.workers.len().max(1);
                let Some(worker) = self.workers.keys().nth(at).cloned() else { return };
                let Some(known) = self.workers.get_mut(&worker) else { return };
                if known.record.phase != WorkerPhase::Ready {
                    return;
                }
                known.jobs.clear();
                known.record.exits += 1;
                self.enter(&worker, WorkerPhase::Backoff);
                self.later(2, &worker, Step::Enter(WorkerPhase::Spawning));
                self.later(3, &worker, Step::Enter(WorkerPhase::Loading));
                self.later(5, &worker, Step::Enter(WorkerPhase::Ready));
            }
            Input::Job(model, job, sequence) => {
                let free = self.workers.iter_mut().find(|(_, worker)| {
                    worker.record.model == model && worker.jobs.len() < worker.record.slots as usize
                });
                let Some((name, worker)) = free else { return };
                worker.jobs.push(job.clone());
                let name = name.clone();
                self.worker_heartbeat(&name).await;
                let due = (Instant::now() + JOB, self.turn);
                self.schedule.insert(due, (name, Step::Answered(job, sequence)));
            }
        }
    }

    fn later(&mut self, steps: u32, worker: &WorkerName, step: Step) {
        self.turn += 1;
        self.schedule.insert((Instant::now() + STEP * steps, self.turn), (worker.clone(), step));
    }

    async fn next_step(&mut self) {
        let Some((_, (worker, step))) = self.schedule.pop_first() else { return };
        match step {
            Step::Enter(phase) => self.enter(&worker, phase),
            Step::Answered(job, sequence) => {
                // This fails when the bus is closed at the end of the measurement.
                let _ = self.bus.drop_job(sequence).await;
                if let Some(known) = self.workers.get_mut(&worker) {
                    known.jobs.retain(|running| *running != job);
                    self.worker_heartbeat(&worker).await;
                }
            }
            Step::Removed => {
                if let Some(worker_state) = self.workers.remove(&worker) {
                    let removed =
                        WorkerEvent::Removed { model: worker_state.record.model, why: "stopped by a queen".to_owned() };
                    self.publish(&worker, removed);
                    Registry::workers(&self.bus).remove_ordered(&self.outbox, &self.key(&worker));
                }
            }
        }
    }

    /// Enters a phase: publishes the event, then writes the record, in the order of a real hive.
    fn enter(&mut self, name: &WorkerName, phase: WorkerPhase) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        worker.record.phase = phase;
        let (model, epoch, slots) = (worker.record.model.clone(), worker.record.epoch, worker.record.slots);
        let (port, is_ordered) = (worker.record.port.unwrap_or_default(), worker.is_ordered);
        let event = match phase {
            WorkerPhase::Spawning => {
                worker.record.epoch += u64::from(worker.record.exits > 0);
                Some(WorkerEvent::Spawned { model, epoch: worker.record.epoch, pid: 1, port })
            }
            WorkerPhase::Loading => {
                Some(WorkerEvent::Loading { epoch, percent: 0, done_bytes: 0, total_bytes: 1 << 30, memory: None })
            }
            WorkerPhase::Ready => Some(WorkerEvent::Ready { model, epoch, slots, context: 2048, load_ms: 100 }),
            WorkerPhase::Backoff => Some(WorkerEvent::Exited {
                model,
                epoch,
                class: ExitClass::Signal,
                code: None,
                signal: Some(9),
                why: "killed by signal 9".to_owned(),
                jobs_returned: 0,
                stderr_tail: Vec::new(),
            }),
            WorkerPhase::Stopping => Some(WorkerEvent::Stopping { why: "stopped by a queen".to_owned() }),
            _ => None,
        };
        if let Some(event) = event {
            self.publish(name, event);
        }
        self.write_worker(name);
        if phase == WorkerPhase::Ready && is_ordered {
            // The receiver is gone when the measurement is over.
            let _ = self.ready_sender.send((name.clone(), Instant::now()));
        }
    }

    fn publish(&self, worker: &WorkerName, event: WorkerEvent) {
        self.outbox.publish(&Event::Worker(self.name.clone(), worker.clone(), event));
    }

    fn write_worker(&self, name: &WorkerName) {
        if let Some(worker) = self.workers.get(name) {
            Registry::workers(&self.bus).put_ordered(&self.outbox, &self.key(name), &worker.record, None);
        }
    }

    fn key(&self, worker: &WorkerName) -> String {
        format!("{}.{worker}", self.name)
    }

    fn write_presence(&self) {
        let record = HiveRecord {
            epoch: 1,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: rbee_schema::HostName::from_lossy(self.name.as_str()),
            first_port: self.first_port,
            last_port: 9999,
            pid: 1,
            state_id: format!("state-of-{}", self.name),
            draining: false,
            degraded: None,
            memory: ByteSize(64 << 30),
            cores: 16,
            limit_method: Some(LimitMethod::CgroupV2),
            metrics: Some(format!("http://{}:7834/metrics", self.name)),
            protocol: Protocol::OURS,
            labels: [("zone".to_owned(), "attic".to_owned())].into(),
            devices: vec![Device::Cpu],
            kinds: vec![ModelKind::Text, ModelKind::Embeddings],
            max_workers: Some(64),
            clock_skew_ms: 0,
        };
        let key = self.name.as_str();
        Registry::hives(&self.bus).put_ordered(&self.outbox, key, &record, Some(PRESENCE_TIME_TO_LIVE));
    }

    async fn hive_heartbeat(&self) {
        let workers = u32::try_from(self.workers.len()).unwrap_or(u32::MAX);
        let heartbeat = HiveHeartbeat {
            epoch: 1,
            workers,
            ports_leased: workers,
            ports_total: 1920,
            late_ms: 1,
            free: Some(FreeResources { memory: 32 << 30, disk: 100 << 30, gpu_memory: None }),
        };
        let _ = self.bus.publish(&Subject::HiveHeartbeat(self.name.clone()), &heartbeat).await;
    }

    async fn worker_heartbeat(&mut self, name: &WorkerName) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        if worker.record.phase != WorkerPhase::Ready {
            return;
        }
        // About fifty tokens per second and job.
        worker.tokens += 50 * worker.jobs.len() as u64;
        let heartbeat = WorkerHeartbeat {
            model: worker.record.model.clone(),
            epoch: worker.record.epoch,
            slots: worker.record.slots,
            jobs: worker.jobs.clone(),
            tokens: worker.tokens,
            steps: worker.tokens,
            blocked: 0,
            memory_bytes: 400 << 20,
            cache: None,
        };
        let _ = self.bus.publish(&Subject::WorkerHeartbeat(self.name.clone(), name.clone()), &heartbeat).await;
    }
}

impl Worker {
    fn new(model: ModelName, spec: ModelSpec, port: u16) -> Self {
        let record = WorkerRecord {
            model,
            phase: WorkerPhase::Requested,
            epoch: 1,
            pid: Some(1),
            port: Some(port),
            slots: spec.slots,
            exits: 0,
            limits: None,
            failure: None,
            spec: Some(spec),
        };
        Self { record, jobs: Vec::new(), tokens: 0, is_ordered: false }
    }
}
