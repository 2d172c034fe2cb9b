//! The server: connections, subscriptions, streams and consumers.

use std::{collections::BTreeMap, rc::Rc, time::Instant};

use super::{
    config::{ConsumerConfig, Republish, Retention, StreamConfig},
    consumer::{AckSubject, Consumer, Served},
    message::{
        AckKind, Answer, ConnectionId, Headers, Message, Op, Output, Pull, Refusal, RequestId, Sid, Status, Stored,
    },
    pattern::matches,
    stream::{Publication, Stream},
};

/// Watch of the subjects of a stream.
#[derive(Debug)]
struct Watch {
    stream: Rc<str>,
    filter: Rc<str>,
    sid: Sid,
}

/// State of one connection.
#[derive(Debug, Default)]
struct Connection {
    subscriptions: BTreeMap<Sid, Rc<str>>,
    watches: Vec<Watch>,
}

/// Model of a server.
#[derive(Debug)]
pub struct Server<B> {
    streams: BTreeMap<Rc<str>, Stream<B>>,
    /// Consumers by stream and name.
    consumers: BTreeMap<(Rc<str>, Rc<str>), Consumer>,
    connections: BTreeMap<ConnectionId, Connection>,
    outputs: Vec<Output<B>>,
}

impl<B: Clone> Default for Server<B> {
    fn default() -> Self {
        Self { streams: BTreeMap::new(), consumers: BTreeMap::new(), connections: BTreeMap::new(), outputs: Vec::new() }
    }
}

impl<B: Clone> Server<B> {
    /// Takes a connection.
    pub fn connect(&mut self, connection: ConnectionId) {
        self.connections.insert(connection, Connection::default());
    }

    /// Forgets a connection with its subscriptions and pulls.
    pub fn disconnect(&mut self, connection: ConnectionId) {
        self.connections.remove(&connection);
        self.consumers.values_mut().for_each(|consumer| consumer.disconnected(connection));
    }

    /// Restarts the server: connections and everything that only its memory held are lost.
    pub fn restart(&mut self, now: Instant) {
        self.connections.clear();
        self.consumers.values_mut().for_each(|consumer| consumer.restart(now));
        self.streams.values_mut().for_each(Stream::restart);
    }

    /// Makes a stream refuse messages as if its disk were full, or accept them again.
    pub fn stuff(&mut self, stream: &str, is_full: bool) {
        if let Some(stream) = self.streams.get_mut(stream) {
            stream.is_stuffed = is_full;
        }
    }

    /// Carries out an operation. Returns what the server sends.
    pub fn handle(&mut self, connection: ConnectionId, op: Op<B>, now: Instant) -> Vec<Output<B>> {
        if self.connections.contains_key(&connection) {
            self.carry_out(connection, op, now);
        }
        std::mem::take(&mut self.outputs)
    }

    /// Lets time pass: messages expire, deliveries time out, pulls end. Returns what the server sends.
    pub fn advance(&mut self, now: Instant) -> Vec<Output<B>> {
        let is_due = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        let due: Vec<Rc<str>> =
            self.streams.iter().filter(|(_, stream)| is_due(stream.due())).map(|(name, _)| name.clone()).collect();
        for name in due {
            let markers = self.streams.get_mut(&name).map(|stream| stream.expire(now)).unwrap_or_default();
            markers.iter().for_each(|marker| self.tell_watchers(&name, marker));
        }
        let due: Vec<(Rc<str>, Rc<str>)> =
            self.consumers.iter().filter(|(_, consumer)| is_due(consumer.due())).map(|(key, _)| key.clone()).collect();
        for key in due {
            let Some(consumer) = self.consumers.get_mut(&key) else { continue };
            let ended = consumer.expire(now);
            let is_unused = consumer.is_unused(now);
            self.answer_pulls(&key, ended);
            if is_unused {
                self.consumers.remove(&key);
            } else {
                self.serve(&key, now);
            }
        }
        std::mem::take(&mut self.outputs)
    }

    /// Time at which [`Server::advance`] has something to do.
    pub fn due(&self) -> Option<Instant> {
        let streams = self.streams.values().filter_map(Stream::due);
        streams.chain(self.consumers.values().filter_map(Consumer::due)).min()
    }

    /// Last message of a subject.
    pub fn last(&self, stream: &str, subject: &str) -> Option<&Stored<B>> {
        self.streams.get(stream)?.last_of(subject)
    }

    /// Messages of a stream that match a filter.
    pub fn read(&self, stream: &str, filter: &str) -> Vec<Stored<B>> {
        self.streams.get(stream).map(|stream| stream.read(filter, 1)).unwrap_or_default()
    }

    /// Number of messages of a stream.
    pub fn len(&self, stream: &str) -> usize {
        self.streams.get(stream).map_or(0, Stream::len)
    }

    /// True if a message is stored.
    pub fn has(&self, stream: &str, sequence: u64) -> bool {
        self.streams.get(stream).is_some_and(|stream| stream.get(sequence).is_some())
    }

    fn carry_out(&mut self, connection: ConnectionId, op: Op<B>, now: Instant) {
        match op {
            Op::Publish { subject, body, size, headers, request } => {
                self.publish(connection, Publication { subject, body, size, headers }, request, now);
            }
            Op::Subscribe { sid, pattern } => {
                if let Some(state) = self.connections.get_mut(&connection) {
                    state.subscriptions.insert(sid, pattern);
                }
            }
            Op::Unsubscribe { sid } => {
                if let Some(state) = self.connections.get_mut(&connection) {
                    state.subscriptions.remove(&sid);
                    state.watches.retain(|watch| watch.sid != sid);
                }
            }
            Op::Ping { request } => self.answer(connection, request, Answer::Done),
            Op::CreateStream { config, request } => {
                self.streams.entry(config.name.clone()).or_insert_with(|| Stream::new(config));
                self.answer(connection, request, Answer::Done);
            }
            Op::OpenConsumer { stream, config, request } => {
                let opened = self.open_consumer(stream, config, now);
                self.answer(connection, request, opened.map_or_else(Answer::Refused, |()| Answer::Done));
            }
            Op::DeleteConsumer { stream, consumer, request } => {
                let key = (stream, consumer);
                let gone = self.consumers.remove(&key);
                let ended = gone.map(|mut gone| gone.end_pulls(Status::ConsumerDeleted)).unwrap_or_default();
                self.answer_pulls(&key, ended);
                self.answer(connection, request, Answer::Done);
            }
            Op::Pull(pull) => self.pull(connection, pull, now),
            Op::Acknowledge { reply, kind, request } => {
                self.acknowledge(&reply, kind, now);
                if let Some(request) = request {
                    self.answer(connection, request, Answer::Done);
                }
            }
            Op::Last { stream, subject, request } => {
                let answer = self.streams.get(&stream).map(|stream| stream.last_of(&subject).cloned());
                self.answer(connection, request, answer.map_or(Answer::Refused(Refusal::Missing), Answer::Last));
            }
            Op::Read { stream, filter, from, request } => {
                let answer = self.streams.get(&stream).map(|stream| stream.read(&filter, from));
                self.answer(connection, request, answer.map_or(Answer::Refused(Refusal::Missing), Answer::Messages));
            }
            Op::Count { stream, filter, request } => {
                let answer = self.streams.get(&stream).map(|stream| stream.counts(&filter));
                self.answer(connection, request, answer.map_or(Answer::Refused(Refusal::Missing), Answer::Counts));
            }
            Op::Delete { stream, sequence, request } => {
                let gone = self.streams.get_mut(&stream).and_then(|stream| stream.remove(sequence));
                self.answer(connection, request, gone.map_or(Answer::Refused(Refusal::Missing), |_| Answer::Done));
            }
            Op::Purge { stream, before, request } => {
                if let Some(stream) = self.streams.get_mut(&stream) {
                    stream.purge(before);
                }
                self.answer(connection, request, Answer::Done);
            }
            Op::Watch { stream, filter, sid, from } => self.watch(connection, Watch { stream, filter, sid }, from),
        }
    }

    fn answer(&mut self, connection: ConnectionId, request: RequestId, answer: Answer<B>) {
        self.outputs.push(Output::Answer(connection, request, answer));
    }

    fn publish(&mut self, connection: ConnectionId, new: Publication<B>, request: Option<RequestId>, now: Instant) {
        self.tell_subscribers(&new.subject, new.body.as_ref(), None);
        let stream = self.streams.values().find(|stream| matches(&stream.config.subjects, &new.subject));
        let Some(name) = stream.map(|stream| stream.config.name.clone()) else {
            if let Some(request) = request {
                self.answer(connection, request, Answer::Refused(Refusal::Missing));
            }
            return;
        };
        let Some(stream) = self.streams.get_mut(&name) else { return };
        let subject = new.subject.clone();
        let stored = stream.publish(new, now);
        if let Some(request) = request {
            let answer = match stored {
                Ok((sequence, is_duplicate)) => Answer::Stored { sequence, is_duplicate },
                Err(refusal) => Answer::Refused(refusal),
            };
            self.answer(connection, request, answer);
        }
        if let Ok((sequence, false)) = stored {
            self.stored(&name, &subject, sequence, now);
        }
    }

    fn stored(&mut self, name: &Rc<str>, subject: &str, sequence: u64, now: Instant) {
        let Some(stream) = self.streams.get(name) else { return };
        let Some(message) = stream.get(sequence).cloned() else { return };
        if let Some(Republish { from, to, headers_only }) = &stream.config.republish
            && let Some(rest) = subject.strip_prefix(&**from)
        {
            let (to, is_empty): (Rc<str>, bool) = (format!("{to}{rest}").into(), *headers_only);
            let body = message.body.as_ref().filter(|_| !is_empty);
            self.tell_subscribers(&to, body, Some(sequence));
        }
        self.tell_watchers(name, &message);
        let matching = self
            .consumers
            .iter()
            .filter(|((stream, _), consumer)| stream == name && matches(&consumer.config.filter, subject));
        let matching: Vec<_> = matching.map(|(key, _)| key.clone()).collect();
        matching.iter().for_each(|key| self.serve(key, now));
    }

    fn tell_subscribers(&mut self, subject: &Rc<str>, body: Option<&B>, sequence: Option<u64>) {
        for (connection, state) in &self.connections {
            for (sid, _) in state.subscriptions.iter().filter(|(_, pattern)| matches(pattern, subject)) {
                let message = Message { subject: subject.clone(), body: body.cloned(), sequence, delivered: None };
                self.outputs.push(Output::Message(*connection, *sid, message));
            }
        }
    }

    fn tell_watchers(&mut self, stream: &str, stored: &Stored<B>) {
        for (connection, state) in &self.connections {
            let is_for = |watch: &&Watch| &*watch.stream == stream && matches(&watch.filter, &stored.subject);
            for watch in state.watches.iter().filter(is_for) {
                self.outputs.push(Output::Message(*connection, watch.sid, watched(stored)));
            }
        }
    }

    fn watch(&mut self, connection: ConnectionId, watch: Watch, from: u64) {
        let stream = self.streams.get(&watch.stream);
        let last = stream.map(|stream| stream.last_of_each(&watch.filter, from)).unwrap_or_default();
        let messages = last.iter().map(|stored| Output::Message(connection, watch.sid, watched(stored)));
        self.outputs.extend(messages);
        self.outputs.push(Output::Status(connection, watch.sid, "".into(), Status::Synced));
        if let Some(state) = self.connections.get_mut(&connection) {
            state.watches.push(watch);
        }
    }

    fn open_consumer(&mut self, stream: Rc<str>, config: ConsumerConfig, now: Instant) -> Result<(), Refusal> {
        let Some(found) = self.streams.get(&stream) else { return Err(Refusal::Missing) };
        let key = (stream.clone(), config.name.clone());
        if self.consumers.contains_key(&key) {
            return Ok(());
        }
        let overlaps = |other: &Consumer| {
            matches(&other.config.filter, &config.filter) || matches(&config.filter, &other.config.filter)
        };
        let is_queue = found.config.retention == Retention::WorkQueue;
        if is_queue && self.consumers.iter().any(|((of, _), other)| *of == stream && overlaps(other)) {
            return Err(Refusal::Overlap);
        }
        self.consumers.insert(key, Consumer::new(config, now));
        Ok(())
    }

    fn pull(&mut self, connection: ConnectionId, pull: Pull, now: Instant) {
        let key = (pull.stream.clone(), pull.consumer.clone());
        let (Some(stream), Some(consumer)) = (self.streams.get(&key.0), self.consumers.get_mut(&key)) else {
            self.outputs.push(Output::Status(connection, pull.sid, pull.tag, Status::NoResponders));
            return;
        };
        let served: Vec<Served> = consumer.pull(connection, &pull, stream, now).into_iter().collect();
        self.answer_pulls(&key, served);
        self.serve(&key, now);
    }

    fn serve(&mut self, key: &(Rc<str>, Rc<str>), now: Instant) {
        let (Some(stream), Some(consumer)) = (self.streams.get(&key.0), self.consumers.get_mut(key)) else { return };
        let connections = &self.connections;
        let listens = |connection, sid: Sid| {
            connections.get(&connection).is_some_and(|state: &Connection| state.subscriptions.contains_key(&sid))
        };
        let served = consumer.serve(stream, listens, now);
        self.answer_pulls(key, served);
    }

    fn answer_pulls(&mut self, (stream, _): &(Rc<str>, Rc<str>), served: Vec<Served>) {
        for Served { connection, sid, tag, answer } in served {
            let output = match answer {
                Err(status) => Output::Status(connection, sid, tag, status),
                Ok(delivered) => {
                    let stored = self.streams.get(stream).and_then(|stream| stream.get(delivered.sequence));
                    let Some(Stored { subject, body, sequence, .. }) = stored.cloned() else { continue };
                    let message = Message { subject, body, sequence: Some(sequence), delivered: Some(delivered) };
                    Output::Message(connection, sid, message)
                }
            };
            self.outputs.push(output);
        }
    }

    fn acknowledge(&mut self, reply: &str, kind: AckKind, now: Instant) {
        let Some(ack) = AckSubject::parse(reply) else { return };
        let key = (Rc::from(ack.stream), Rc::from(ack.consumer));
        let Some(consumer) = self.consumers.get_mut(&key) else { return };
        let is_settled = consumer.acknowledge(ack, kind, now);
        let stream = self.streams.get_mut(&key.0);
        if let Some(stream) = stream.filter(|stream| is_settled && stream.config.retention == Retention::WorkQueue) {
            stream.remove(ack.sequence);
        }
        self.serve(&key, now);
    }

    /// Creates a stream without a client.
    pub fn create_stream(&mut self, config: StreamConfig) {
        self.streams.entry(config.name.clone()).or_insert_with(|| Stream::new(config));
    }

    /// Stores a message without a client.
    pub fn store(&mut self, subject: Rc<str>, body: B, now: Instant) -> Vec<Output<B>> {
        self.publish(0, Publication { subject, body: Some(body), size: 0, headers: Headers::default() }, None, now);
        std::mem::take(&mut self.outputs)
    }
}

fn watched<B: Clone>(stored: &Stored<B>) -> Message<B> {
    Message {
        subject: stored.subject.clone(),
        body: stored.body.clone(),
        sequence: Some(stored.sequence),
        delivered: None,
    }
}
