//! The observer: it receives everything that the server stores and delivers, and the true fate of every process.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::{Duration, Instant},
};

use rbee_schema::{
    Chunk, FailureCode, HiveName, HostName, JobBlame, JobClass, Tenant, WorkerName, WorkerPhase, WorkerRecord,
};

use super::{
    ends::WorkerEnd,
    job::{Accepted, Hold, JobState},
    waits::Disturbances,
};
use crate::{
    broker::{Message, Server},
    network::Observed,
    runtime::{Process, Runtime},
    words::{Body, Job, JobKey, job_of},
};

/// Time without disturbances after which a worker must keep its jobs: two redelivery timeouts.
const HEALTHY: Duration = Duration::from_secs(40);

/// Time without disturbances after which the end of a worker is certainly seen and blamed.
const SEEN: Duration = Duration::from_secs(5);

/// A worker that takes jobs.
struct Serving {
    process: Process,
    child: (HiveName, WorkerName, u64),
    since: Instant,
}

/// Numbers of what has happened in a simulation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Jobs that the queue has accepted.
    pub jobs: u64,
    /// Jobs that were answered.
    pub answered: u64,
    /// Jobs that failed, by whatever cause.
    pub failed: u64,
    /// Jobs that were given up.
    pub given_up: u64,
    /// Chunks that were stored.
    pub chunks: u64,
    /// Deliveries of jobs.
    pub deliveries: u64,
    /// Deliveries after the first.
    pub redeliveries: u64,
    /// Worker processes that were started.
    pub workers: u64,
    /// Worker processes that ended before they were told to.
    pub ends: u64,
    /// Faults that were injected.
    pub faults: u64,
}

#[derive(Default)]
struct State {
    jobs: BTreeMap<JobKey, JobState>,
    /// Jobs in the queue by sequence.
    queued: BTreeMap<u64, JobKey>,
    /// Process that is bound to each port.
    bound: BTreeMap<(HostName, u16), u64>,
    /// Workers that have ended in a way that a job can cause.
    blameable: BTreeSet<(HiveName, WorkerName)>,
    disturbances: Disturbances,
    /// Workers that take jobs, by process.
    serving: BTreeMap<u64, Serving>,
    /// Runs of workers whose record says that they take jobs.
    recorded: BTreeSet<(HiveName, WorkerName, u64)>,
    counts: Counts,
    ends_per_job: u32,
    /// First deliveries of interactive and of batch jobs while jobs of both classes waited.
    chosen: (u64, u64),
}

/// The observer; cheap to clone.
#[derive(Clone)]
pub struct Judge {
    runtime: Runtime,
    state: Rc<RefCell<State>>,
}

impl std::fmt::Debug for Judge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Judge").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl Judge {
    /// An observer. A job may end `ends_per_job` workers while nothing else disturbs.
    pub fn new(runtime: &Runtime, ends_per_job: u32) -> Self {
        let state = State { ends_per_job, ..State::default() };
        Self { runtime: runtime.clone(), state: Rc::new(RefCell::new(state)) }
    }

    /// Numbers so far.
    pub fn counts(&self) -> Counts {
        self.state.borrow().counts
    }

    /// Looks at a job.
    pub fn job(&self, key: &JobKey) -> Option<JobState> {
        self.state.borrow().jobs.get(key).cloned()
    }

    /// Jobs that wait or run.
    pub fn open(&self) -> Vec<JobState> {
        self.state.borrow().jobs.values().filter(|job| job.is_open()).cloned().collect()
    }

    /// True if a job waits or runs.
    pub fn has_open(&self) -> bool {
        self.state.borrow().jobs.values().any(JobState::is_open)
    }

    /// Interactive jobs of each tenant: tokens that were served, and the number of jobs that wait.
    pub fn tenants(&self) -> BTreeMap<Tenant, (u64, u64)> {
        let mut tenants: BTreeMap<Tenant, (u64, u64)> = BTreeMap::new();
        let state = self.state.borrow();
        for (key, job) in state.jobs.iter().filter(|(_, job)| job.job.class == JobClass::Interactive) {
            let (served, waiting) = tenants.entry(key.0.clone()).or_default();
            *served += u64::from(job.next_index);
            *waiting += u64::from(job.waits());
        }
        tenants
    }

    /// First deliveries of interactive and of batch jobs while jobs of both classes waited.
    pub fn chosen(&self) -> (u64, u64) {
        self.state.borrow().chosen
    }

    /// A client is about to submit a job.
    pub fn submitting(&self, job: &Rc<Job>) {
        let state = JobState::new(job.clone());
        self.state.borrow_mut().jobs.entry(job.key.clone()).or_insert(state);
    }

    /// A client is about to cancel a job.
    pub fn cancelling(&self, key: &JobKey) {
        let now = self.runtime.now();
        if let Some(job) = self.state.borrow_mut().jobs.get_mut(key) {
            job.cancelled.get_or_insert(now);
        }
    }

    /// A fault begins that disturbs everything until `until`.
    pub fn disturbed(&self, until: Instant) {
        let mut state = self.state.borrow_mut();
        state.counts.faults += 1;
        state.disturbances.everything(until);
    }

    /// A fault begins that disturbs a process until `until`.
    pub fn process_disturbed(&self, process: &Process, until: Instant) {
        let mut state = self.state.borrow_mut();
        state.counts.faults += 1;
        state.disturbances.process(process.number(), until);
    }

    /// A hive starts a worker process on a port.
    pub fn bound(&self, host: &HostName, port: u16, process: &Process) {
        let mut state = self.state.borrow_mut();
        state.counts.workers += 1;
        if let Some(other) = state.bound.insert((host.clone(), port), process.number()) {
            let number = process.number();
            self.runtime.fail(|| format!("port {port} of {host} belongs to the processes {other} and {number}"));
        }
    }

    /// True if a living worker is bound to a port.
    pub fn is_bound(&self, host: &HostName, port: u16) -> bool {
        self.state.borrow().bound.contains_key(&(host.clone(), port))
    }

    /// A hive has the lease of a port that a living worker is bound to.
    pub fn leased_in_use(&self, host: &HostName, port: u16) {
        self.runtime.fail(|| format!("port {port} of {host} is leased again while a living worker is bound to it"));
    }

    /// A worker process takes jobs. `child` has its name and epoch.
    pub fn serves(&self, process: &Process, child: (HiveName, WorkerName, u64)) {
        let since = self.runtime.now();
        self.state.borrow_mut().serving.insert(process.number(), Serving { process: process.clone(), child, since });
    }

    /// A worker process takes no further jobs, or makes no progress.
    pub fn serves_no_more(&self, process: &Process) {
        self.state.borrow_mut().serving.remove(&process.number());
    }

    /// A worker process has ended. `hive` is the process of its hive, if that sees it at once.
    pub fn worker_ended(
        &self,
        worker: &(HiveName, WorkerName),
        process: &Process,
        end: &WorkerEnd,
        hive: Option<&Process>,
    ) {
        let mut state = self.state.borrow_mut();
        let now = self.runtime.now();
        state.serving.remove(&process.number());
        state.bound.retain(|_, number| *number != process.number());
        state.counts.ends += u64::from(*end != WorkerEnd::Exited);
        if !end.may_be_blamed() {
            return;
        }
        state.blameable.insert(worker.clone());
        let is_calm = |of: &Process| state.disturbances.is_calm(of.number(), SEEN, now);
        let is_calm = is_calm(process) && hive.is_some_and(is_calm);
        let most = state.ends_per_job;
        for job in state.jobs.values_mut() {
            if job.hold.as_ref().is_some_and(|hold| hold.process.number() == process.number()) {
                job.blameable += 1;
            }
            if *end == WorkerEnd::Poisoned(job.job.key.clone()) {
                job.ended_workers += u32::from(is_calm);
                if job.ended_workers > most {
                    let (key, ended) = (job.job.key.clone(), job.ended_workers);
                    self.runtime.fail(|| format!("job {} has ended {ended} workers", key.1));
                }
            }
        }
    }

    /// A worker has ended an attempt, or has returned a delivery.
    pub fn attempt_ended(&self, key: &JobKey, reply: &str) {
        if let Some(job) = self.state.borrow_mut().jobs.get_mut(key)
            && job.hold.as_ref().is_some_and(|hold| &*hold.reply == reply)
        {
            job.hold = None;
        }
    }

    /// Handles what has happened at the server.
    pub fn observe(&self, server: &Server<Body>, observed: &Observed<'_>) {
        match observed {
            Observed::Stored { subject, body, sequence } => match body {
                Body::Job(job) => self.queued(job, *sequence),
                Body::Chunk(written) => {
                    self.state.borrow_mut().counts.chunks += 1;
                    self.with_job(subject, |job| job.stored(written));
                    self.count_end(&written.chunk);
                    if written.writer == 0 {
                        self.refused(subject, &written.chunk);
                    }
                }
                Body::Blame(blame) => self.blamed(subject, blame),
                Body::Worker(record) => self.recorded(subject, record),
                _ => {}
            },
            Observed::Published { subject, body: Body::Chunk(_) } if subject.starts_with("out.") => {
                self.with_job(subject, |job| {
                    job.ended_unstored = true;
                    Ok(())
                });
            }
            Observed::Published { .. } => {}
            Observed::Delivered { message, to } => self.delivered(message, to),
            Observed::Removed => self.removed(server),
        }
    }

    fn count_end(&self, chunk: &Chunk) {
        let counts = &mut self.state.borrow_mut().counts;
        match chunk {
            Chunk::Done { .. } => counts.answered += 1,
            Chunk::Error { error } => {
                counts.failed += 1;
                counts.given_up += u64::from(error.code == FailureCode::TriedTooOften);
            }
            _ => {}
        }
    }

    fn queued(&self, job: &Rc<Job>, sequence: u64) {
        let at = self.runtime.now();
        let mut state = self.state.borrow_mut();
        state.counts.jobs += 1;
        state.queued.insert(sequence, job.key.clone());
        let known = state.jobs.entry(job.key.clone()).or_insert_with(|| JobState::new(job.clone()));
        // A server that restarts forgets the id of a job that has left the queue.
        let is_over = known.has_left && (known.ended.is_some() || known.ended_unstored);
        if known.accepted.replace(Accepted { sequence, at }).is_some() && !is_over {
            self.runtime.fail(|| format!("job {} is accepted twice", job.key.1));
        }
        known.has_left = false;
    }

    fn with_job(&self, subject: &str, check: impl FnOnce(&mut JobState) -> Result<(), String>) {
        let Some(key) = job_of(subject) else { return };
        let mut state = self.state.borrow_mut();
        let Some(job) = state.jobs.get_mut(&key) else { return };
        if let Err(broken) = check(job) {
            self.runtime.fail(|| format!("job {}: {broken}", key.1));
        }
    }

    fn blamed(&self, subject: &str, blame: &JobBlame) {
        let worker = (blame.hive.clone(), blame.worker.clone());
        if !self.state.borrow().blameable.contains(&worker) {
            self.runtime.fail(|| format!("{subject}: blamed for the end of {}, which no job has caused", worker.1));
        }
    }

    fn recorded(&self, subject: &str, record: &WorkerRecord) {
        let mut names = subject.split('.').skip(1);
        let (hive, worker) = (names.next().and_then(|name| name.parse().ok()), names.next());
        let worker = worker.and_then(|name| name.parse().ok());
        if let (Some(hive), Some(worker), WorkerPhase::Ready) = (hive, worker, record.phase) {
            self.state.borrow_mut().recorded.insert((hive, worker, record.epoch));
        }
    }

    /// A queen has refused a job. It does not while a worker takes the jobs of the model.
    fn refused(&self, subject: &str, chunk: &Chunk) {
        let Chunk::Error { error } = chunk else { return };
        if error.code == FailureCode::Cancelled {
            return;
        }
        let (state, now) = (self.state.borrow(), self.runtime.now());
        let takes = |serving: &&Serving| {
            let Serving { process, child, since } = serving;
            now >= *since + HEALTHY
                && state.recorded.contains(child)
                && !process.is_frozen()
                && state.disturbances.is_calm(process.number(), HEALTHY, now)
        };
        if let Some(Serving { process, .. }) = state.serving.values().find(takes) {
            self.runtime.fail(|| format!("{subject} is refused ({}) although {process:?} takes jobs", error.code));
        }
    }

    fn delivered(&self, message: &Message<Body>, to: &Process) {
        let (Some(Body::Job(job)), Some(delivered)) = (&message.body, &message.delivered) else { return };
        let now = self.runtime.now();
        let mut state = self.state.borrow_mut();
        state.counts.deliveries += 1;
        state.counts.redeliveries += u64::from(delivered.attempt > 1);
        if delivered.attempt == 1 {
            let waits = |class| state.jobs.values().any(|other| other.job.class == class && other.waits());
            if waits(JobClass::Interactive) && waits(JobClass::Batch) {
                match job.class {
                    JobClass::Interactive => state.chosen.0 += 1,
                    JobClass::Batch => state.chosen.1 += 1,
                }
            }
        }
        let State { jobs, disturbances, .. } = &mut *state;
        let Some(known) = jobs.get_mut(&job.key) else { return };
        let hold = Hold { process: to.clone(), reply: delivered.reply.clone(), since: now };
        if let Some(Hold { process, since, .. }) = known.hold.replace(hold)
            && process.is_alive()
            && !process.is_frozen()
            && now >= since + Duration::from_secs(1)
            && disturbances.is_calm(process.number(), HEALTHY, now)
            && disturbances.is_calm(to.number(), HEALTHY, now)
        {
            self.runtime.fail(|| format!("job {} is taken from {process:?}, which is healthy", job.key.1));
        }
    }

    fn removed(&self, server: &Server<Body>) {
        let mut state = self.state.borrow_mut();
        let gone: Vec<(u64, JobKey)> =
            state.queued.extract_if(.., |sequence, _| !server.has("jobs", *sequence)).collect();
        for (_, key) in gone {
            let Some(job) = state.jobs.get_mut(&key) else { continue };
            job.has_left = true;
            job.hold = None;
            if job.ended.is_none() && !job.ended_unstored {
                self.runtime.fail(|| format!("job {} has left the queue without an end", key.1));
            }
        }
    }
}
