//! The queue of one model, from which a worker pulls jobs: pulls, their replies, and notices of stored jobs.
//!
//! A **fetch** asks a flow for a job now, and is answered at once. A **standing pull** waits at the server for the next job of
//! a flow. It costs nothing while it waits. Standing pulls can be withdrawn, all at once: they form a generation with a
//! subscription of its own, and the server gives no job to a pull whose subscription has ended.

use std::{
    collections::{HashMap, VecDeque},
    future::poll_fn,
    task::Poll,
    time::Duration,
};

use async_nats::{
    Message, Subscriber,
    jetstream::{self, AckKind},
};
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use rbee_schema::{JobFlow, ModelName, TenantSpecs};
use serde::Serialize;
use tokio::task::JoinSet;
use tracing::warn;

use super::{
    Delivery,
    consumer::{Consumer, PRIORITY_GROUP, open_consumer},
};
use crate::{Bus, BusError, Subject, Topology, recovery::Recovery};

/// Time after which the server ends a standing pull. A pull can be lost without a word, with the cluster member that held it,
/// so it is renewed. Long, so that ten thousand idle workers send a few dozen pulls per second.
pub const STANDING: Duration = Duration::from_secs(5 * 60);

/// Time after which the server ends a fetch for a tenant with a limit of running jobs. It answers at once if no job waits, but
/// keeps the fetch while the limit is reached, and the fetch keeps a slot from other tenants meanwhile.
pub const LIMITED_FETCH: Duration = Duration::from_millis(50);

/// Kind of a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pull {
    /// It is answered at once, with a job or without.
    Fetch,
    /// It waits at the server.
    Standing,
    /// It was a standing pull, and the server had sent a job before it learned of the withdrawal.
    Withdrawn,
}

/// Priority of a standing pull. The server gives a job to the pull with the highest priority; pulls of one priority take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// A slot is free.
    Free,
    /// Another job has to be paused first.
    Preempting,
}

impl Priority {
    /// Priority as the server counts it: 0 is the highest.
    fn level(self) -> u8 {
        match self {
            Self::Free => 0,
            Self::Preempting => 9,
        }
    }
}

/// Message from the queue.
#[derive(Debug)]
pub enum Pulled {
    /// A job was delivered.
    Job(Box<Delivery>, Pull),
    /// The pull ended without a job: no job waited, or the time of a standing pull was over.
    Nothing(JobFlow, Pull),
    /// The pull failed. The next one makes the consumer again if it is missing.
    Failed(JobFlow, Pull, BusError),
    /// The consumer of a flow exists.
    Opened,
    /// A job of the flow was stored.
    Queued(JobFlow),
    /// Flows with waiting or running jobs, and the number of these jobs.
    Listed(Vec<(JobFlow, u64)>),
    /// All pulls are gone: the connection was lost and is back, or the stream has changed.
    Reset,
}

/// Something that has arrived and is not processed yet.
#[derive(Debug)]
pub struct Received(Arrival);

#[derive(Debug)]
enum Arrival {
    Fetched(Message),
    Standing(u64, Message),
    Notice(Message),
    Done(Done),
    Reset,
}

/// End of a background request.
#[derive(Debug)]
enum Done {
    /// A consumer was opened with this limit of running jobs.
    Opened(JobFlow, Option<u32>, Result<Consumer, BusError>),
    Listed(Result<Vec<(JobFlow, u64)>, BusError>),
}

/// Standing pulls that are withdrawn together.
#[derive(Debug)]
struct Generation {
    number: u64,
    replies: Subscriber,
}

/// Pull that waits until the consumer of its flow is made.
#[derive(Debug, Clone, Copy)]
enum Deferred {
    Fetch,
    Standing(u64, Priority),
}

/// Queue of one model, from which a worker pulls jobs. It makes consumers when they are needed.
#[derive(Debug)]
pub struct JobQueue {
    bus: Bus,
    model: ModelName,
    /// Prefix of the subjects of all replies.
    inbox: String,
    fetched: Subscriber,
    notices: Subscriber,
    /// Advisories about the stream. A server that deletes a stream does not answer every pull.
    advisories: Subscriber,
    connection: Recovery,
    /// Number of the current generation.
    generation: u64,
    /// Generations, oldest first; all but the current one are being withdrawn.
    generations: Vec<Generation>,
    /// Consumers that exist.
    open: HashMap<JobFlow, Consumer>,
    /// Limits of tenants.
    tenants: TenantSpecs,
    deferred: HashMap<JobFlow, Vec<Deferred>>,
    requests: JoinSet<Done>,
    /// Messages that are read and not returned yet.
    read: VecDeque<Pulled>,
}

impl JobQueue {
    /// Opens the queue of `model`.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn open(bus: &Bus, model: &ModelName, tenants: TenantSpecs) -> Result<Self, BusError> {
        let inbox = bus.client().new_inbox();
        let notices = bus.subscribe(bus.namespace().queued_of_model(model)).await?;
        let advisories = bus.subscribe(bus.namespace().advisories_about("jobs")).await?;
        let fetched = bus.subscribe(format!("{inbox}.fetch.*.*")).await?;
        Ok(Self {
            bus: bus.clone(),
            model: model.clone(),
            inbox,
            fetched,
            notices,
            advisories,
            connection: Recovery::new(bus),
            generation: 0,
            generations: Vec::new(),
            tenants,
            open: HashMap::new(),
            deferred: HashMap::new(),
            requests: JoinSet::new(),
            read: VecDeque::new(),
        })
    }

    /// Applies the limits of tenants, also to consumers that exist.
    pub fn limit(&mut self, tenants: TenantSpecs) {
        let before = std::mem::replace(&mut self.tenants, tenants);
        let max_running = |specs: &TenantSpecs, flow: &JobFlow| specs.get(&flow.tenant).max_running;
        let changed = |flow: &&JobFlow| max_running(&before, flow) != max_running(&self.tenants, flow);
        let changed: Vec<JobFlow> = self.open.keys().filter(changed).cloned().collect();
        for flow in changed {
            self.open_consumer(flow);
        }
    }

    /// Asks for a job of `flow` that waits now.
    pub async fn fetch(&mut self, flow: &JobFlow) {
        self.pull(flow, Deferred::Fetch).await;
    }

    /// Asks for the next job of `flow`, whenever it comes.
    pub async fn stand(&mut self, flow: &JobFlow, priority: Priority) {
        self.pull(flow, Deferred::Standing(self.generation, priority)).await;
    }

    /// Withdraws all standing pulls. Jobs that the server has sent before it learns of it still arrive, as
    /// [`Pull::Withdrawn`].
    pub async fn withdraw(&mut self) {
        let withdrawn = self.generation;
        self.generation += 1;
        let Some(generation) = self.generations.iter_mut().find(|generation| generation.number == withdrawn) else {
            return;
        };
        // The server ends the subscription at once, because it takes such a limit for none. The client keeps it, so that what
        // the server has sent before arrives. `Subscriber::drain` may drop it.
        let ended = generation.replies.unsubscribe_after(u64::MAX).await;
        let marked = self.bus.client().publish(format!("{}.fetch.{MARK}.{withdrawn}", self.inbox), Bytes::new()).await;
        if ended.is_err() || marked.is_err() {
            self.generations.clear();
        }
    }

    /// Lists the flows with jobs, as [`Pulled::Listed`]. A failed listing is logged and returns nothing.
    pub fn list(&mut self) {
        let (bus, model) = (self.bus.clone(), self.model.clone());
        self.requests.spawn(async move { Done::Listed(bus.job_flows(&model).await) });
    }

    /// True while jobs of withdrawn pulls may still arrive.
    pub fn is_withdrawing(&self) -> bool {
        self.generations.iter().any(|generation| generation.number != self.generation)
    }

    /// Waits for something to process. Cancel-safe.
    pub async fn receive(&mut self) -> Received {
        let generations = &mut self.generations;
        let standing = poll_fn(|context| {
            for Generation { number, replies } in generations.iter_mut() {
                if let Poll::Ready(Some(message)) = replies.poll_next_unpin(context) {
                    return Poll::Ready((*number, message));
                }
            }
            Poll::Pending
        });
        Received(tokio::select! {
            biased;
            () = self.connection.interrupted() => Arrival::Reset,
            Some(_) = self.advisories.next() => Arrival::Reset,
            (generation, message) = standing => Arrival::Standing(generation, message),
            Some(message) = self.fetched.next() => Arrival::Fetched(message),
            Some(Ok(done)) = self.requests.join_next() => Arrival::Done(done),
            Some(message) = self.notices.next() => Arrival::Notice(message),
        })
    }

    /// Processes what was received.
    pub async fn process(&mut self, Received(arrival): Received) -> Vec<Pulled> {
        match arrival {
            Arrival::Fetched(message) => match self.mark(&message) {
                Some(number) => self.finish_withdrawal(number).await,
                None => self.reply(message, Pull::Fetch).await,
            },
            Arrival::Standing(number, message) => self.standing_reply(number, message).await,
            Arrival::Notice(message) => {
                if let Some(Subject::Queued(_, class, tenant)) = self.bus.parse(&message.subject) {
                    self.read.push_back(Pulled::Queued(JobFlow { class, tenant }));
                }
            }
            Arrival::Done(Done::Opened(flow, max_running, _))
                if max_running != self.tenants.get(&flow.tenant).max_running =>
            {
                // The limit has changed meanwhile.
                self.open_consumer(flow);
            }
            Arrival::Done(Done::Opened(flow, _, opened)) => self.opened(flow, opened).await,
            Arrival::Done(Done::Listed(Ok(flows))) => self.read.push_back(Pulled::Listed(flows)),
            Arrival::Done(Done::Listed(Err(error))) => warn!(%error, "failed to list the jobs of the model"),
            Arrival::Reset => {
                self.withdraw().await;
                self.open.clear();
                self.deferred.clear();
                self.read.push_back(Pulled::Reset);
            }
        }
        self.read.drain(..).collect()
    }

    async fn pull(&mut self, flow: &JobFlow, pull: Deferred) {
        if self.open.contains_key(flow) {
            return self.send(flow, pull).await;
        }
        let waiting = self.deferred.entry(flow.clone()).or_default();
        waiting.push(pull);
        if waiting.len() == 1 {
            self.open_consumer(flow.clone());
        }
    }

    fn open_consumer(&mut self, flow: JobFlow) {
        let (bus, model) = (self.bus.clone(), self.model.clone());
        let max_running = self.tenants.get(&flow.tenant).max_running;
        self.requests.spawn(async move {
            let opened = open_consumer(&bus, &model, &flow, max_running).await;
            Done::Opened(flow, max_running, opened)
        });
    }

    /// Sends the pulls that have waited for a consumer.
    async fn opened(&mut self, flow: JobFlow, opened: Result<Consumer, BusError>) {
        let pulls = self.deferred.remove(&flow).unwrap_or_default();
        match opened {
            Ok(consumer) => {
                self.open.insert(flow.clone(), consumer);
                self.read.push_back(Pulled::Opened);
                for pull in pulls {
                    self.send(&flow, pull).await;
                }
            }
            Err(error) => {
                // The next pull tries again.
                self.open.remove(&flow);
                for pull in pulls {
                    self.failed(&flow, pull, &error);
                }
            }
        }
    }

    async fn send(&mut self, flow: &JobFlow, pull: Deferred) {
        let (group, request) = match pull {
            Deferred::Fetch => {
                let is_limited = self.tenants.get(&flow.tenant).max_running.is_some();
                ("fetch".to_owned(), Request::fetch(is_limited.then_some(LIMITED_FETCH)))
            }
            // It was withdrawn before it was sent.
            Deferred::Standing(number, _) if number != self.generation => return,
            Deferred::Standing(number, priority) => (format!("standing-{number}"), Request::standing(priority)),
        };
        if let Err(error) = self.publish(flow, &group, &request).await {
            self.failed(flow, pull, &error);
        }
    }

    async fn publish(&mut self, flow: &JobFlow, group: &str, request: &Request) -> Result<(), BusError> {
        let failed = |cause: String| BusError::new("pull a job", cause);
        if group != "fetch" && self.generations.last().is_none_or(|last| last.number != self.generation) {
            let replies = self.bus.client().subscribe(format!("{}.{group}.*.*", self.inbox)).await;
            let replies = replies.map_err(|error| failed(error.to_string()))?;
            self.generations.push(Generation { number: self.generation, replies });
        }
        let stream = self.bus.namespace().resource("jobs");
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{}", Topology::job_consumer(&self.model, flow));
        let reply = format!("{}.{group}.{}.{}", self.inbox, flow.class, flow.tenant);
        let body = crate::bus::json(request);
        let published = self.bus.client().publish_with_reply(subject, reply, body).await;
        published.map_err(|error| failed(error.to_string()))
    }

    fn failed(&mut self, flow: &JobFlow, pull: Deferred, error: &BusError) {
        let kind = match pull {
            Deferred::Fetch => Pull::Fetch,
            Deferred::Standing(number, _) if number == self.generation => Pull::Standing,
            Deferred::Standing(..) => return,
        };
        self.read.push_back(Pulled::Failed(flow.clone(), kind, error.clone()));
    }

    async fn standing_reply(&mut self, number: u64, message: Message) {
        let kind = if number == self.generation { Pull::Standing } else { Pull::Withdrawn };
        if kind == Pull::Standing || message.status.is_none() {
            self.reply(message, kind).await;
        }
    }

    /// Number of the generation whose end a message to this queue itself marks.
    fn mark(&self, message: &Message) -> Option<u64> {
        message.subject.strip_prefix(&format!("{}.fetch.{MARK}.", self.inbox))?.parse().ok()
    }

    /// Everything that the server has sent to the generation before it ended the subscription has arrived.
    async fn finish_withdrawal(&mut self, number: u64) {
        let Some(at) = self.generations.iter().position(|generation| generation.number == number) else { return };
        let mut generation = self.generations.remove(at);
        while let Some(Some(message)) = generation.replies.next().now_or_never() {
            self.standing_reply(number, message).await;
        }
    }

    async fn reply(&mut self, message: Message, kind: Pull) {
        let Some(status) = message.status else { return self.delivered(message, kind).await };
        let Some(flow) = self.flow_of(&message.subject) else { return };
        self.read.push_back(match status.as_u16() {
            NO_MESSAGES | TIMEOUT => Pulled::Nothing(flow, kind),
            code => {
                self.open.remove(&flow);
                let text = message.description.as_deref().unwrap_or("no reason");
                let error = BusError::new(format!("pull {flow}"), format!("status {code}: {text}"));
                Pulled::Failed(flow, kind, error)
            }
        });
    }

    async fn delivered(&mut self, message: Message, kind: Pull) {
        let flow = match self.bus.parse(&message.subject) {
            Some(Subject::Job(_, class, tenant)) => JobFlow { class, tenant },
            _ => return,
        };
        let consumer = self.open.get(&flow).copied();
        let message = jetstream::Message { message, context: self.bus.jetstream().clone() };
        let delivery = consumer.and_then(|consumer| Delivery::read(&self.bus, &message, consumer));
        if let Some(delivery) = delivery {
            return self.read.push_back(Pulled::Job(Box::new(delivery), kind));
        }
        // Its consumer was lost meanwhile, so the job is delivered again.
        if let Err(error) = message.ack_with(AckKind::Nak(None)).await {
            warn!(%error, "failed to return a job to the queue");
        }
        if kind != Pull::Withdrawn {
            self.read.push_back(Pulled::Nothing(flow, kind));
        }
    }

    /// Flow that the subject of a reply names.
    fn flow_of(&self, subject: &str) -> Option<JobFlow> {
        let mut tokens = subject.strip_prefix(&self.inbox)?.split('.').skip(2);
        Some(JobFlow { class: tokens.next()?.parse().ok()?, tenant: tokens.next()?.parse().ok()? })
    }
}

/// Status of a reply: no job waits.
const NO_MESSAGES: u16 = 404;

/// Status of a reply: the time of the pull is over, or more pulls wait than jobs.
const TIMEOUT: u16 = 408;

/// Token of the subject to which a queue publishes to learn that a withdrawal is complete. It is the name of no class.
const MARK: &str = "withdrawn";

/// Body of a pull: <https://docs.nats.io/reference/reference-protocols/nats_api_reference>.
#[derive(Debug, Serialize)]
struct Request {
    batch: u32,
    group: &'static str,
    priority: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    no_wait: Option<bool>,
    /// Nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
}

impl Request {
    fn fetch(limit: Option<Duration>) -> Self {
        let (priority, expires) = (Priority::Free.level(), limit.map(nanoseconds));
        Self { batch: 1, group: PRIORITY_GROUP, priority, no_wait: Some(true), expires }
    }

    fn standing(priority: Priority) -> Self {
        let expires = Some(nanoseconds(STANDING));
        Self { batch: 1, group: PRIORITY_GROUP, priority: priority.level(), no_wait: None, expires }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
