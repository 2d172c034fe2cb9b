//! The queue of a model, from which a worker pulls jobs, as `nats/src/job/pull.rs` does.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use rbee_schema::{JobFlow, ModelName};

use super::delivery::Delivery;
use crate::{
    broker::{Answer, ConsumerConfig, Message, Op, Pull as PullOp, Sid, Status},
    check::Judge,
    network::{Arrival as Arrived, Away, Connection},
    runtime::Mailbox,
    words::{Body, consumer_name, flow_of, job_subject},
};

/// Time after which the server ends a standing pull.
pub(super) const STANDING: Duration = Duration::from_secs(5 * 60);

/// Time after which the server removes an unused consumer.
const UNUSED: Duration = Duration::from_secs(10 * 60);

/// Priority of a standing pull before which a batch job has to be paused.
const PREEMPTING: u8 = 9;

/// Kind of a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pull {
    Fetch,
    Standing,
    Withdrawn,
}

/// Message from the queue.
#[derive(Debug)]
pub(super) enum Pulled {
    Job(Delivery, Pull),
    Nothing(JobFlow, Pull),
    Failed(JobFlow, Pull),
    Queued(JobFlow),
    Listed(Vec<(JobFlow, u64)>),
    Reset,
}

/// Something that has arrived for the queue.
#[derive(Debug)]
pub(super) enum Arrival {
    Fetched(Arrived),
    Standing(u64, Arrived),
    Notice(Message<Body>),
    Opened(JobFlow, Result<(), Away>),
    Listed(Vec<(JobFlow, u64)>),
    /// Everything that the server has sent to a withdrawn generation has arrived.
    Withdrawn(u64),
    Reset,
}

/// Something that happened to the task that serves.
#[derive(Debug)]
pub(super) enum Event {
    Arrived(Arrival),
    /// A job has ended: its number, the tokens that were computed, and true if it has returned to the queue.
    Ended(u64, u64, bool),
    /// No job runs alone any more, or one does.
    Open(bool),
    /// The worker takes no further jobs.
    Drain,
    /// The worker ends now (SIGTERM).
    Terminate,
}

#[derive(Debug, Clone, Copy)]
enum Deferred {
    Fetch,
    Standing(u64, u8),
}

/// Queue of one model.
#[derive(Debug)]
pub(super) struct JobQueue {
    connection: Connection,
    judge: Judge,
    model: ModelName,
    redelivery: Duration,
    mailbox: Mailbox<Event>,
    fetches: Sid,
    generation: u64,
    generations: BTreeMap<u64, Sid>,
    open: BTreeSet<JobFlow>,
    deferred: BTreeMap<JobFlow, Vec<Deferred>>,
}

impl JobQueue {
    pub(super) fn open(
        (connection, judge): (&Connection, &Judge),
        model: &ModelName,
        redelivery: Duration,
        mailbox: &Mailbox<Event>,
    ) -> Self {
        let sender = mailbox.clone();
        connection.subscribe(format!("queued.{model}.>"), move |arrived| {
            if let Arrived::Message(message) = arrived {
                sender.put(Event::Arrived(Arrival::Notice(message)));
            }
        });
        let sender = mailbox.clone();
        let inbox = format!("inbox.{}", connection.process().number());
        let fetches = connection.subscribe(inbox, move |arrived| sender.put(Event::Arrived(Arrival::Fetched(arrived))));
        let sender = mailbox.clone();
        connection.on_change(move |is_online| {
            if is_online {
                sender.put(Event::Arrived(Arrival::Reset));
            }
        });
        Self {
            connection: connection.clone(),
            judge: judge.clone(),
            model: model.clone(),
            redelivery,
            mailbox: mailbox.clone(),
            fetches,
            generation: 0,
            generations: BTreeMap::new(),
            open: BTreeSet::new(),
            deferred: BTreeMap::new(),
        }
    }

    pub(super) fn fetch(&mut self, flow: &JobFlow) {
        self.pull(flow, Deferred::Fetch);
    }

    pub(super) fn stand(&mut self, flow: &JobFlow, preempts: bool) {
        let priority = if preempts { PREEMPTING } else { 0 };
        self.pull(flow, Deferred::Standing(self.generation, priority));
    }

    pub(super) fn withdraw(&mut self) {
        let withdrawn = self.generation;
        self.generation += 1;
        let Some(sid) = self.generations.get(&withdrawn) else { return };
        self.connection.unsubscribe(*sid);
        let (connection, mailbox) = (self.connection.clone(), self.mailbox.clone());
        let process = self.connection.process().clone();
        process.spawn(async move {
            // A mark that is lost is sent again by the next withdrawal, in the product too.
            if connection.round_trip(Duration::from_secs(8)).await.is_ok() {
                mailbox.put(Event::Arrived(Arrival::Withdrawn(withdrawn)));
            }
        });
    }

    pub(super) fn list(&self) {
        let (connection, mailbox, model) = (self.connection.clone(), self.mailbox.clone(), self.model.clone());
        self.connection.process().spawn(async move {
            let filter = format!("job.{model}.>").into();
            let counted = connection.request(|request| Op::Count { stream: "jobs".into(), filter, request }).await;
            if let Ok(Answer::Counts(counts)) = counted {
                let flows = counts.iter().filter_map(|(subject, count)| Some((flow_of(subject)?.1, *count))).collect();
                mailbox.put(Event::Arrived(Arrival::Listed(flows)));
            }
        });
    }

    pub(super) fn is_withdrawing(&self) -> bool {
        self.generations.keys().any(|number| *number != self.generation)
    }

    pub(super) fn process(&mut self, arrival: Arrival) -> Vec<Pulled> {
        match arrival {
            Arrival::Fetched(arrived) => self.reply(arrived, Pull::Fetch).into_iter().collect(),
            Arrival::Standing(number, arrived) => self.standing_reply(number, arrived).into_iter().collect(),
            Arrival::Notice(message) => {
                flow_of(&message.subject).map(|(_, flow)| Pulled::Queued(flow)).into_iter().collect()
            }
            Arrival::Opened(flow, opened) => self.opened(&flow, opened),
            Arrival::Listed(flows) => vec![Pulled::Listed(flows)],
            Arrival::Withdrawn(number) => {
                if let Some(sid) = self.generations.remove(&number) {
                    self.connection.forget(sid);
                }
                Vec::new()
            }
            Arrival::Reset => {
                self.withdraw();
                self.open.clear();
                self.deferred.clear();
                vec![Pulled::Reset]
            }
        }
    }

    fn pull(&mut self, flow: &JobFlow, pull: Deferred) {
        if self.open.contains(flow) {
            return self.send(flow, pull);
        }
        let waiting = self.deferred.entry(flow.clone()).or_default();
        waiting.push(pull);
        if waiting.len() == 1 {
            let (connection, mailbox, flow) = (self.connection.clone(), self.mailbox.clone(), flow.clone());
            let config = ConsumerConfig {
                name: consumer_name(&self.model, &flow),
                filter: job_subject(&self.model, &flow),
                ack_wait: self.redelivery,
                unused: UNUSED,
            };
            self.connection.process().spawn(async move {
                let stream = Rc::from("jobs");
                let opened = connection.request(|request| Op::OpenConsumer { stream, config, request }).await;
                let opened = opened.and_then(|answer| matches!(answer, Answer::Done).then_some(()).ok_or(Away));
                mailbox.put(Event::Arrived(Arrival::Opened(flow, opened)));
            });
        }
    }

    fn opened(&mut self, flow: &JobFlow, opened: Result<(), Away>) -> Vec<Pulled> {
        let pulls = self.deferred.remove(flow).unwrap_or_default();
        if opened.is_ok() {
            self.open.insert(flow.clone());
            pulls.into_iter().for_each(|pull| self.send(flow, pull));
            return Vec::new();
        }
        let failed = |pull| match pull {
            Deferred::Fetch => Some(Pulled::Failed(flow.clone(), Pull::Fetch)),
            Deferred::Standing(number, _) if number == self.generation => {
                Some(Pulled::Failed(flow.clone(), Pull::Standing))
            }
            Deferred::Standing(..) => None,
        };
        pulls.into_iter().filter_map(failed).collect()
    }

    fn send(&mut self, flow: &JobFlow, pull: Deferred) {
        let (sid, priority, expires) = match pull {
            Deferred::Fetch => (self.fetches, 0, None),
            Deferred::Standing(number, _) if number != self.generation => return,
            Deferred::Standing(number, priority) => (self.generation_of(number), priority, Some(STANDING)),
        };
        let (stream, consumer) = ("jobs".into(), consumer_name(&self.model, flow));
        let tag = format!("{}.{}", flow.class, flow.tenant).into();
        self.connection.send(Op::Pull(PullOp { stream, consumer, sid, tag, priority, expires }));
    }

    fn generation_of(&mut self, number: u64) -> Sid {
        let (connection, mailbox) = (&self.connection, &self.mailbox);
        *self.generations.entry(number).or_insert_with(|| {
            let sender = mailbox.clone();
            let inbox = format!("inbox.{}.{number}", connection.process().number());
            connection.subscribe(inbox, move |arrived| sender.put(Event::Arrived(Arrival::Standing(number, arrived))))
        })
    }

    fn standing_reply(&mut self, number: u64, arrived: Arrived) -> Option<Pulled> {
        let kind = if number == self.generation { Pull::Standing } else { Pull::Withdrawn };
        if kind == Pull::Withdrawn && matches!(arrived, Arrived::Status(..)) {
            return None;
        }
        self.reply(arrived, kind)
    }

    fn reply(&mut self, arrived: Arrived, kind: Pull) -> Option<Pulled> {
        match arrived {
            Arrived::Message(message) => {
                let flow = flow_of(&message.subject)?.1;
                let delivery = Delivery::read((&self.connection, &self.judge), &message, self.redelivery)?;
                if self.open.contains(&flow) {
                    return Some(Pulled::Job(delivery, kind));
                }
                // Its consumer was lost meanwhile, so the job is delivered again.
                delivery.nak(Duration::ZERO);
                (kind != Pull::Withdrawn).then_some(Pulled::Nothing(flow, kind))
            }
            Arrived::Status(tag, status) => {
                let flow = flow_of(&format!("status.model.{tag}"))?.1;
                Some(match status {
                    Status::NoMessages | Status::Timeout => Pulled::Nothing(flow, kind),
                    Status::ConsumerDeleted | Status::NoResponders | Status::Synced => {
                        self.open.remove(&flow);
                        Pulled::Failed(flow, kind)
                    }
                })
            }
        }
    }
}
