//! A pull consumer with explicit acknowledgements and prioritized pulls.
//!
//! Follows `consumer.go` of nats-server 2.12: a redelivery keeps the delivery sequence of the first one, an acknowledgement names
//! the message and not the delivery, and a nak of any delivery that is not below the floor queues the message again.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    rc::Rc,
    time::Instant,
};

use super::{
    config::ConsumerConfig,
    message::{AckKind, ConnectionId, Delivered, Pull, Sid, Status},
    stream::Stream,
};

/// Message that is delivered and not acknowledged.
#[derive(Debug, Clone, Copy)]
struct Pending {
    /// Delivery sequence of the first delivery.
    delivery: u64,
    due: Instant,
}

/// Pull that waits.
#[derive(Debug)]
struct Waiting {
    connection: ConnectionId,
    sid: Sid,
    tag: Rc<str>,
    priority: u8,
    expires: Instant,
}

/// A pull that is answered.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) connection: ConnectionId,
    pub(super) sid: Sid,
    pub(super) tag: Rc<str>,
    pub(super) answer: Result<Delivered, Status>,
}

/// Parts of an acknowledgement subject.
#[derive(Debug, Clone, Copy)]
pub(super) struct AckSubject<'a> {
    pub(super) stream: &'a str,
    pub(super) consumer: &'a str,
    pub(super) sequence: u64,
    pub(super) delivery: u64,
}

impl<'a> AckSubject<'a> {
    /// Reads `$JS.ACK.<stream>.<consumer>.<attempt>.<sequence>.<delivery>.<time>.<pending>`.
    pub(super) fn parse(reply: &'a str) -> Option<Self> {
        let mut tokens = reply.strip_prefix("$JS.ACK.")?.split('.');
        let (stream, consumer) = (tokens.next()?, tokens.next()?);
        let mut numbers = tokens.skip(1).map(|token| token.parse().ok());
        Some(Self { stream, consumer, sequence: numbers.next()??, delivery: numbers.next()?? })
    }
}

/// A consumer of a stream.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) config: ConsumerConfig,
    /// First sequence of the stream that was not delivered yet.
    next: u64,
    /// Number of deliveries.
    deliveries: u64,
    /// Delivery sequence up to which everything is acknowledged.
    floor: u64,
    pending: BTreeMap<u64, Pending>,
    /// Number of deliveries of messages that are not acknowledged.
    attempts: HashMap<u64, u64>,
    redeliver: VecDeque<u64>,
    waiting: Vec<Waiting>,
    used: Instant,
}

impl Consumer {
    pub(super) fn new(config: ConsumerConfig, now: Instant) -> Self {
        Self {
            config,
            next: 1,
            deliveries: 0,
            floor: 0,
            pending: BTreeMap::new(),
            attempts: HashMap::new(),
            redeliver: VecDeque::new(),
            waiting: Vec::new(),
            used: now,
        }
    }

    /// Takes a pull. Returns the answer if it does not wait and no message does.
    pub(super) fn pull<B: Clone>(
        &mut self,
        connection: ConnectionId,
        pull: &Pull,
        stream: &Stream<B>,
        now: Instant,
    ) -> Option<Served> {
        self.used = now;
        let Pull { sid, ref tag, priority, expires, .. } = *pull;
        let Some(expires) = expires else {
            let answer = self.deliver(stream, now).ok_or(Status::NoMessages);
            return Some(Served { connection, sid, tag: tag.clone(), answer });
        };
        let at = self.waiting.partition_point(|waiting| waiting.priority <= priority);
        let waiting = Waiting { connection, sid, tag: tag.clone(), priority, expires: now + expires };
        self.waiting.insert(at, waiting);
        None
    }

    /// Gives messages to waiting pulls. `listens` is true for a subscription that exists.
    pub(super) fn serve<B: Clone>(
        &mut self,
        stream: &Stream<B>,
        listens: impl Fn(ConnectionId, Sid) -> bool,
        now: Instant,
    ) -> Vec<Served> {
        let mut served = Vec::new();
        while !self.waiting.is_empty() && self.has_message(stream) {
            let Waiting { connection, sid, tag, .. } = self.waiting.remove(0);
            if !listens(connection, sid) {
                continue;
            }
            let Some(delivered) = self.deliver(stream, now) else { break };
            self.used = now;
            served.push(Served { connection, sid, tag, answer: Ok(delivered) });
        }
        served
    }

    fn has_message<B: Clone>(&self, stream: &Stream<B>) -> bool {
        self.redeliver.iter().any(|sequence| stream.get(*sequence).is_some())
            || stream.first_from(&self.config.filter, self.next).is_some()
    }

    fn deliver<B: Clone>(&mut self, stream: &Stream<B>, now: Instant) -> Option<Delivered> {
        let sequence = self.take(stream)?;
        self.deliveries += 1;
        let due = now + self.config.ack_wait;
        let delivery = self.deliveries;
        self.pending.entry(sequence).and_modify(|pending| pending.due = due).or_insert(Pending { delivery, due });
        let attempt = self.attempts.entry(sequence).or_insert(0);
        *attempt += 1;
        let (attempt, pending) = (*attempt, stream.count_from(&self.config.filter, self.next));
        let (name, consumer) = (&stream.config.name, &self.config.name);
        let stored = stream.get(sequence)?.at;
        let reply = format!("$JS.ACK.{name}.{consumer}.{attempt}.{sequence}.{delivery}.0.{pending}").into();
        Some(Delivered { reply, sequence, attempt, pending, stored })
    }

    fn take<B: Clone>(&mut self, stream: &Stream<B>) -> Option<u64> {
        while let Some(sequence) = self.redeliver.pop_front() {
            if stream.get(sequence).is_some() {
                return Some(sequence);
            }
            self.forget(sequence);
        }
        let sequence = stream.first_from(&self.config.filter, self.next)?;
        self.next = sequence + 1;
        Some(sequence)
    }

    /// Handles an acknowledgement. Returns true if the message is to be removed from a work queue.
    pub(super) fn acknowledge(&mut self, ack: AckSubject<'_>, kind: AckKind, now: Instant) -> bool {
        let AckSubject { sequence, delivery, .. } = ack;
        self.used = now;
        match kind {
            AckKind::Ack | AckKind::Term => sequence < self.next && self.settle(sequence),
            AckKind::Progress => {
                if let Some(pending) = self.pending.get_mut(&sequence) {
                    pending.due = now + self.config.ack_wait;
                }
                false
            }
            AckKind::Nak(pause) => {
                if delivery <= self.floor || delivery > self.deliveries {
                    return false;
                }
                let Some(pending) = self.pending.get_mut(&sequence) else { return false };
                if !pause.is_zero() {
                    pending.due = now + pause;
                } else if !self.redeliver.contains(&sequence) {
                    self.redeliver.push_back(sequence);
                }
                false
            }
        }
    }

    fn settle(&mut self, sequence: u64) -> bool {
        let Some(Pending { delivery, .. }) = self.forget(sequence) else { return false };
        if self.pending.is_empty() {
            self.floor = self.deliveries;
        } else if delivery == self.floor + 1 {
            let next = self.pending.range(sequence + 1..).next();
            self.floor = next.map_or(delivery, |(_, pending)| pending.delivery - 1).max(delivery);
        }
        true
    }

    fn forget(&mut self, sequence: u64) -> Option<Pending> {
        self.attempts.remove(&sequence);
        self.redeliver.retain(|queued| *queued != sequence);
        self.pending.remove(&sequence)
    }

    /// Queues the messages whose redelivery timeout has passed, and ends pulls whose time is over.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Served> {
        let redeliver = &mut self.redeliver;
        for (sequence, pending) in self.pending.iter_mut().filter(|(_, pending)| pending.due <= now) {
            pending.due = now + self.config.ack_wait;
            if !redeliver.contains(sequence) {
                redeliver.push_back(*sequence);
            }
        }
        let over = self.waiting.extract_if(.., |waiting| waiting.expires <= now);
        over.map(|Waiting { connection, sid, tag, .. }| Served { connection, sid, tag, answer: Err(Status::Timeout) })
            .collect()
    }

    /// True if the server deletes the consumer, because nobody has used it.
    pub(super) fn is_unused(&self, now: Instant) -> bool {
        self.waiting.is_empty() && now >= self.used + self.config.unused
    }

    /// Time at which something is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let pending = self.pending.values().map(|pending| pending.due);
        let unused = self.waiting.is_empty().then_some(self.used + self.config.unused);
        pending.chain(self.waiting.iter().map(|waiting| waiting.expires)).chain(unused).min()
    }

    /// Ends every waiting pull with this status.
    pub(super) fn end_pulls(&mut self, status: Status) -> Vec<Served> {
        let ended = self.waiting.drain(..);
        ended.map(|Waiting { connection, sid, tag, .. }| Served { connection, sid, tag, answer: Err(status) }).collect()
    }

    /// Forgets the pulls of a connection that was closed.
    pub(super) fn disconnected(&mut self, connection: ConnectionId) {
        self.waiting.retain(|waiting| waiting.connection != connection);
    }

    /// A restart of the server keeps what was delivered and forgets pulls. Messages that were queued again wait for their
    /// redelivery timeout.
    pub(super) fn restart(&mut self, now: Instant) {
        self.waiting.clear();
        self.redeliver.clear();
        self.used = now;
        let due = now + self.config.ack_wait;
        self.pending.values_mut().for_each(|pending| pending.due = pending.due.min(due));
    }
}
