//! One delivery of a job to a worker.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use rbee_schema::{JobFlow, JobInFlight};

use crate::{
    broker::{AckKind, Message, Op},
    check::Judge,
    network::{Away, Connection},
    words::{Body, Job},
};

/// Job that was delivered to this worker and is not acknowledged yet.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    connection: Connection,
    judge: Judge,
    pub(super) job: Rc<Job>,
    pub(super) reply: Rc<str>,
    /// Time at which the server stored the job.
    pub(super) stored: Instant,
    pub(super) waiting: u64,
    pub(super) attempt: u64,
    pub(super) redelivery: Duration,
}

impl Delivery {
    pub(super) fn read(
        (connection, judge): (&Connection, &Judge),
        message: &Message<Body>,
        redelivery: Duration,
    ) -> Option<Self> {
        let (Some(Body::Job(job)), Some(delivered)) = (&message.body, &message.delivered) else { return None };
        Some(Self {
            connection: connection.clone(),
            judge: judge.clone(),
            job: job.clone(),
            reply: delivered.reply.clone(),
            stored: delivered.stored,
            waiting: delivered.pending,
            attempt: delivered.attempt,
            redelivery,
        })
    }

    pub(super) fn flow(&self) -> JobFlow {
        self.job.flow()
    }

    pub(super) fn in_flight(&self) -> JobInFlight {
        let (tenant, job) = self.job.key.clone();
        let redelivery_ms = u64::try_from(self.redelivery.as_millis()).ok();
        JobInFlight { tenant, job, ack: self.reply.to_string(), waits: false, redelivery_ms }
    }

    pub(super) fn keep_alive(&self) {
        self.send(AckKind::Progress);
    }

    pub(super) fn nak(&self, pause: Duration) {
        self.ended();
        self.send(AckKind::Nak(pause));
    }

    /// The worker does nothing more for this delivery.
    pub(super) fn ended(&self) {
        self.judge.attempt_ended(&self.job.key, &self.reply);
    }

    pub(super) async fn ack(&self) -> Result<(), Away> {
        let reply = self.reply.clone();
        let op = |request| Op::Acknowledge { reply, kind: AckKind::Ack, request: Some(request) };
        self.connection.request(op).await.map(drop)
    }

    fn send(&self, kind: AckKind) {
        self.connection.send(Op::Acknowledge { reply: self.reply.clone(), kind, request: None });
    }
}
