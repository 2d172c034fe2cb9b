//! The model of the simulation as a [`Broker`].

use std::{
    collections::VecDeque,
    rc::Rc,
    time::{Duration, Instant},
};

use rbee_sim::broker::{
    AckKind, Answer, ConsumerConfig, Discard, Headers as ModelHeaders, Message, Op, Output, Pull, Refusal, Republish,
    Retention, Server, Status, StreamConfig,
};

use super::broker::{Ack, Broker, Headers, Received, StreamSpec};

const CONNECTION: u64 = 1;

/// The model with one client.
pub(super) struct Model {
    server: Server<String>,
    now: Instant,
    next: u64,
    answers: VecDeque<(u64, Answer<String>)>,
    received: Vec<VecDeque<Received>>,
}

impl Model {
    pub(super) fn new() -> Self {
        let mut server = Server::default();
        server.connect(CONNECTION);
        Self { server, now: Instant::now(), next: 0, answers: VecDeque::new(), received: Vec::new() }
    }

    fn send(&mut self, op: Op<String>) {
        let outputs = self.server.handle(CONNECTION, op, self.now);
        self.take(outputs);
    }

    fn request(&mut self, op: impl FnOnce(u64) -> Op<String>) -> Answer<String> {
        self.next += 1;
        let request = self.next;
        self.send(op(request));
        let at = self.answers.iter().position(|(number, _)| *number == request).expect("an answer");
        self.answers.remove(at).expect("it is there").1
    }

    fn take(&mut self, outputs: Vec<Output<String>>) {
        for output in outputs {
            match output {
                Output::Message(_, sid, message) => self.inbox(sid).push_back(received(&message)),
                Output::Status(_, sid, _, status) => self.inbox(sid).push_back(Received::Status(code(status))),
                Output::Answer(_, request, answer) => self.answers.push_back((request, answer)),
            }
        }
    }

    fn inbox(&mut self, sid: u64) -> &mut VecDeque<Received> {
        &mut self.received[usize::try_from(sid).expect("small")]
    }

    fn new_inbox(&mut self, pattern: &str) -> usize {
        self.received.push(VecDeque::new());
        let at = self.received.len() - 1;
        self.send(Op::Subscribe { sid: at as u64, pattern: pattern.into() });
        at
    }
}

fn received(message: &Message<String>) -> Received {
    let body = message.body.clone().unwrap_or_default();
    match &message.delivered {
        Some(delivered) => Received::Message {
            body,
            attempt: delivered.attempt,
            pending: delivered.pending,
            reply: delivered.reply.to_string(),
        },
        None => Received::Message { body, attempt: 0, pending: 0, reply: String::new() },
    }
}

fn code(status: Status) -> u16 {
    match status {
        Status::NoMessages => 404,
        Status::Timeout => 408,
        Status::ConsumerDeleted => 409,
        Status::NoResponders => 503,
        Status::Synced => 200,
    }
}

impl Broker for Model {
    fn create_stream(&mut self, spec: &StreamSpec) {
        let base = if spec.is_bucket { StreamConfig::bucket(spec.name) } else { StreamConfig::new(spec.name, "") };
        let config = StreamConfig {
            subjects: spec.subjects.into(),
            retention: if spec.work_queue { Retention::WorkQueue } else { Retention::Limits },
            discard: if spec.discard_new { Discard::New } else { base.discard },
            per_subject: spec.per_subject.or(base.per_subject),
            max_bytes: spec.max_bytes,
            duplicates: spec.duplicates.unwrap_or(base.duplicates),
            republish: spec.republish.map(|(from, to, headers_only)| Republish {
                from: from.into(),
                to: to.into(),
                headers_only,
            }),
            ..base
        };
        self.request(|request| Op::CreateStream { config, request });
    }

    fn publish(&mut self, subject: &str, body: &str, headers: Headers) -> Result<(u64, bool), String> {
        let Headers { id, expect, time_to_live, deletes } = headers;
        let (subject, size) = (subject.into(), body.len() as u64);
        let body = (!deletes).then(|| body.to_owned());
        let headers = ModelHeaders { id: id.map(Rc::from), expect, time_to_live };
        match self.request(|request| Op::Publish { subject, body, size, headers, request: Some(request) }) {
            Answer::Stored { sequence, is_duplicate } => Ok((sequence, is_duplicate)),
            Answer::Refused(Refusal::Stale) => Err("stale".to_owned()),
            Answer::Refused(Refusal::Full) => Err("full".to_owned()),
            other => Err(format!("{other:?}")),
        }
    }

    fn open_consumer(&mut self, stream: &str, name: &str, filter: &str, ack_wait: Duration) -> Result<(), String> {
        let unused = Duration::from_secs(600);
        let config = ConsumerConfig { name: name.into(), filter: filter.into(), ack_wait, unused };
        match self.request(|request| Op::OpenConsumer { stream: stream.into(), config, request }) {
            Answer::Done => Ok(()),
            Answer::Refused(Refusal::Overlap) => Err("overlap".to_owned()),
            other => Err(format!("{other:?}")),
        }
    }

    fn delete_consumer(&mut self, stream: &str, name: &str) {
        self.request(|request| Op::DeleteConsumer { stream: stream.into(), consumer: name.into(), request });
    }

    fn pull(&mut self, stream: &str, consumer: &str, priority: u8, expires: Option<Duration>) -> usize {
        let at = self.new_inbox(&format!("inbox.{}", self.received.len()));
        let (stream, consumer, sid, tag) = (stream.into(), consumer.into(), at as u64, "".into());
        self.send(Op::Pull(Pull { stream, consumer, sid, tag, priority, expires }));
        at
    }

    fn withdraw(&mut self, pull: usize) {
        self.send(Op::Unsubscribe { sid: pull as u64 });
    }

    fn subscribe(&mut self, pattern: &str) -> usize {
        self.new_inbox(pattern)
    }

    fn receive(&mut self, at: usize, within: Duration) -> Option<Received> {
        let end = self.now + within;
        loop {
            if let Some(received) = self.received[at].pop_front() {
                return Some(received);
            }
            match self.server.due().filter(|due| *due <= end) {
                Some(due) => {
                    self.now = due.max(self.now);
                    let outputs = self.server.advance(self.now);
                    self.take(outputs);
                }
                None => {
                    self.now = end;
                    return None;
                }
            }
        }
    }

    fn acknowledge(&mut self, reply: &str, ack: Ack) {
        let kind = match ack {
            Ack::Done => AckKind::Ack,
            Ack::Nak(pause) => AckKind::Nak(pause),
            Ack::Progress => AckKind::Progress,
            Ack::Term => AckKind::Term,
        };
        self.request(|request| Op::Acknowledge { reply: reply.into(), kind, request: Some(request) });
    }

    fn last(&mut self, stream: &str, subject: &str) -> Option<(u64, Option<String>)> {
        match self.request(|request| Op::Last { stream: stream.into(), subject: subject.into(), request }) {
            Answer::Last(found) => found.map(|found| (found.sequence, found.body)),
            other => panic!("{other:?}"),
        }
    }

    fn count(&mut self, stream: &str) -> u64 {
        self.server.len(stream) as u64
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.server.due().filter(|due| *due <= end) {
            self.now = due.max(self.now);
            let outputs = self.server.advance(self.now);
            self.take(outputs);
        }
        self.now = end;
    }
}
