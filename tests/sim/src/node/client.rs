//! A client: it submits jobs, reads their output as it is published, repairs gaps from the stream, and cancels some.

use std::{cell::Cell, collections::BTreeMap, rc::Rc, time::Duration};

use rbee_nats::next_index;
use rbee_schema::{Chunk, JobClass, ModelName, Tenant};

use super::site::Site;
use crate::{
    broker::{Answer, Headers, Op, Refusal},
    network::{Arrival, Away, Connection},
    runtime::{Mailbox, Process},
    words::{Body, Job, JobKey, Written, cancel_subject, job_of, job_subject, output_subject},
};

/// Interval at which a client looks for output that it did not receive.
const RECHECK: Duration = Duration::from_secs(20);

/// Jobs of a client.
#[derive(Debug, Clone)]
pub struct ClientPlan {
    /// Model of the jobs.
    pub model: ModelName,
    /// Tenant of the jobs.
    pub tenant: Tenant,
    /// One of so many jobs is a batch job. 0 for none.
    pub batch: u32,
    /// Mean time between two jobs.
    pub interval: Duration,
    /// Smallest and largest number of tokens.
    pub tokens: (u32, u32),
    /// Time of a token.
    pub pace: Duration,
    /// One of so many jobs ends its workers. 0 for none.
    pub poison: u32,
    /// One of so many jobs is cancelled. 0 for none.
    pub cancel: u32,
    /// One of so many jobs never ends by itself, and is cancelled at last. 0 for none.
    pub endless: u32,
    /// Time since the start after which the client submits nothing more.
    pub until: Duration,
    /// Number of jobs that are submitted at once in the beginning.
    pub burst: u32,
}

/// Output of a job as its client has received it.
#[derive(Debug)]
struct View {
    job: Rc<Job>,
    next_index: u32,
    last: u64,
    is_reading: bool,
}

enum Event {
    Chunk(JobKey, Option<u64>, Rc<Written>),
    Accepted(Rc<Job>),
    Read(JobKey, Vec<(u64, Rc<Written>)>),
    ReadFailed(JobKey),
    Online,
}

/// A client process.
#[derive(Debug)]
pub struct Client {
    process: Process,
    open: Rc<Cell<usize>>,
}

struct Reader {
    site: Site,
    connection: Connection,
    mailbox: Mailbox<Event>,
    views: BTreeMap<JobKey, View>,
    /// Number of jobs whose end the client has not received.
    open: Rc<Cell<usize>>,
}

impl Client {
    /// Starts a client.
    pub fn start(site: &Site, plan: ClientPlan) -> Self {
        let process = Process::begin(&site.runtime, &format!("client/{}", plan.tenant));
        let connection = site.network.connect(&process);
        let mailbox = Mailbox::default();
        let sender = mailbox.clone();
        connection.subscribe(format!("out.{}.*", plan.tenant), move |arrived| {
            let Arrival::Message(message) = arrived else { return };
            if let (Some(key), Some(Body::Chunk(written))) = (job_of(&message.subject), message.body) {
                sender.put(Event::Chunk(key, message.sequence, written));
            }
        });
        let sender = mailbox.clone();
        connection.on_change(move |is_online| {
            if is_online {
                sender.put(Event::Online);
            }
        });
        let reader = Reader {
            site: site.clone(),
            connection: connection.clone(),
            mailbox: mailbox.clone(),
            views: BTreeMap::new(),
            open: Rc::default(),
        };
        let open = reader.open.clone();
        process.spawn(reader.run());
        process.spawn(submit_all(site.clone(), connection, plan, mailbox));
        Self { process, open }
    }

    /// Number of accepted jobs whose end the client has not received.
    pub fn open(&self) -> usize {
        self.open.get()
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }
}

async fn submit_all(site: Site, connection: Connection, plan: ClientPlan, mailbox: Mailbox<Event>) {
    let process = connection.process().clone();
    let end = site.runtime.start() + plan.until;
    for number in 0_u32.. {
        if site.runtime.now() >= end {
            return;
        }
        let job = Rc::new(draw_job(&site, &plan, number));
        let (site, connection, mailbox) = (site.clone(), connection.clone(), mailbox.clone());
        let is_endless = job.tokens == u32::MAX;
        let cancels = is_endless || plan.cancel > 0 && site.runtime.one_in(plan.cancel);
        let longest = if is_endless { 200 } else { 20 };
        let pause = site.runtime.between(Duration::ZERO, Duration::from_secs(longest));
        process.clone().spawn(async move {
            site.judge.submitting(&job);
            if !submit(&connection, &job).await {
                return;
            }
            mailbox.put(Event::Accepted(job.clone()));
            if cancels {
                connection.process().sleep(pause).await;
                site.judge.cancelling(&job.key);
                cancel(&connection, &job.key).await;
            }
        });
        if number >= plan.burst {
            let mean = plan.interval.as_secs_f64();
            let wait = site_draw(&process, mean);
            process.sleep(wait).await;
        }
    }
}

/// An exponentially distributed pause.
fn site_draw(process: &Process, mean: f64) -> Duration {
    let uniform = process.runtime().draw(fastrand::Rng::f64);
    Duration::from_secs_f64((-(1.0 - uniform).ln() * mean).min(mean * 20.0))
}

fn draw_job(site: &Site, plan: &ClientPlan, number: u32) -> Job {
    let one_in = |times: u32| times > 0 && site.runtime.one_in(times);
    let is_batch = one_in(plan.batch);
    let tokens = site.runtime.draw(|rng| rng.u32(plan.tokens.0..=plan.tokens.1));
    let poison = one_in(plan.poison).then(|| site.runtime.draw(|rng| rng.u32(0..tokens)));
    let tokens = if poison.is_none() && one_in(plan.endless) { u32::MAX } else { tokens };
    let id = format!("{}-{number}", plan.tenant);
    Job {
        key: (plan.tenant.clone(), id.parse().unwrap_or_else(|error| panic!("{id} is no id: {error}"))),
        model: plan.model.clone(),
        class: if is_batch { JobClass::Batch } else { JobClass::Interactive },
        tokens,
        pace: plan.pace,
        poison,
    }
}

/// Submits a job until the queue has accepted it. False if the queue is full.
async fn submit(connection: &Connection, job: &Rc<Job>) -> bool {
    let process = connection.process().clone();
    loop {
        let id = format!("{}.{}", job.key.0, job.key.1).into();
        let headers = Headers { id: Some(id), ..Headers::default() };
        let (subject, body) = (job_subject(&job.model, &job.flow()), Some(Body::Job(job.clone())));
        let op = |request| Op::Publish { subject, body, size: 1000, headers, request: Some(request) };
        match connection.request(op).await {
            Ok(Answer::Stored { .. }) => return true,
            Ok(Answer::Refused(Refusal::Full)) => return false,
            Ok(_) | Err(Away) => process.sleep(Duration::from_secs(1)).await,
        }
    }
}

async fn cancel(connection: &Connection, key: &JobKey) {
    let process = connection.process().clone();
    loop {
        let (subject, headers) = (cancel_subject(key), Headers::default());
        let op = |request| Op::Publish { subject, body: Some(Body::Empty), size: 1, headers, request: Some(request) };
        match connection.request(op).await {
            Ok(Answer::Stored { .. }) => return,
            Ok(_) | Err(Away) => process.sleep(Duration::from_secs(1)).await,
        }
    }
}

impl Reader {
    async fn run(mut self) {
        let process = self.connection.process().clone();
        let mut recheck = process.now() + RECHECK;
        loop {
            self.open.set(self.views.len());
            match self.mailbox.next(&process, Some(recheck)).await {
                Some(event) => self.handle(event),
                None => {
                    self.read_all();
                    recheck = process.now() + RECHECK;
                }
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Chunk(key, sequence, written) => self.chunk(&key, sequence, &written),
            Event::Accepted(job) => {
                let key = job.key.clone();
                self.views.insert(key.clone(), View { job, next_index: 0, last: 0, is_reading: false });
                self.read(&key);
            }
            Event::Read(key, chunks) => {
                if let Some(view) = self.views.get_mut(&key) {
                    view.is_reading = false;
                }
                for (sequence, written) in chunks {
                    self.chunk(&key, Some(sequence), &written);
                }
            }
            Event::ReadFailed(key) => {
                if let Some(view) = self.views.get_mut(&key) {
                    view.is_reading = false;
                }
            }
            Event::Online => self.read_all(),
        }
    }

    fn chunk(&mut self, key: &JobKey, sequence: Option<u64>, Written { chunk, .. }: &Written) {
        let Some(view) = self.views.get_mut(key) else { return };
        let Some(sequence) = sequence else {
            // A failure that could not be stored.
            if chunk.is_last() {
                self.views.remove(key);
            }
            return;
        };
        if sequence <= view.last {
            return;
        }
        let Ok(next) = next_index(view.next_index, chunk) else { return self.read(key) };
        if let Chunk::Tokens { index, ids, .. } = chunk {
            let job = view.job.clone();
            if !(*index..).take(ids.len()).map(|index| job.token(index)).eq(ids.iter().copied()) {
                self.site.runtime.fail(|| format!("the client of job {} receives other tokens", key.1));
            }
        }
        (view.next_index, view.last) = (next, sequence);
        if chunk.is_last() {
            self.views.remove(key);
        }
    }

    fn read_all(&mut self) {
        // A failure that could not be stored reaches only those who listen.
        let judge = &self.site.judge;
        self.views.retain(|key, _| !judge.job(key).is_some_and(|job| job.ended_unstored && job.ended.is_none()));
        let keys: Vec<JobKey> = self.views.keys().cloned().collect();
        keys.iter().for_each(|key| self.read(key));
    }

    /// Reads what is stored behind the last chunk that the client has.
    fn read(&mut self, key: &JobKey) {
        let Some(view) = self.views.get_mut(key).filter(|view| !view.is_reading) else { return };
        view.is_reading = true;
        let (connection, mailbox, key, from) =
            (self.connection.clone(), self.mailbox.clone(), key.clone(), view.last + 1);
        self.connection.process().spawn(async move {
            let (stream, filter) = ("output".into(), output_subject(&key));
            match connection.request(|request| Op::Read { stream, filter, from, request }).await {
                Ok(Answer::Messages(messages)) => {
                    let chunks = messages.into_iter().filter_map(|message| match message.body {
                        Some(Body::Chunk(written)) => Some((message.sequence, written)),
                        _ => None,
                    });
                    mailbox.put(Event::Read(key, chunks.collect()));
                }
                Ok(_) | Err(Away) => mailbox.put(Event::ReadFailed(key)),
            }
        });
    }
}
