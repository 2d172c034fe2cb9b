//! Commands to hives, and jobs that are returned to the queue, as `queen/src/controller/commands.rs` has them.

use std::{rc::Rc, time::Duration};

use rbee_nats::CommandIssuer;
use rbee_queen::decide::{fleet::WorkerKey, plan::NewWorker};
use rbee_schema::{HiveCommand, JobInFlight, StopMode, WorkerName};

use super::state::{Controller, Event};
use crate::{
    broker::{AckKind, Answer, Headers, Op},
    words::{Body, Placed},
};

/// Pause before a command is sent again that the server did not confirm.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Time to live of a command (setting `command`).
const COMMAND: Duration = Duration::from_secs(60);

impl Controller {
    pub(super) fn spawn(&mut self, term: u64, NewWorker { model, spec, hive, .. }: NewWorker) {
        self.next_worker += 1;
        let worker = format!("{model}-{}-{}-{}", self.name, self.process.number(), self.next_worker);
        let Ok(worker) = worker.parse::<WorkerName>() else { return };
        let key = (hive.clone(), worker.clone());
        self.fleet.spawn_commanded(key.clone(), model.clone(), self.process.now());
        let placed = Body::Placed(Placed { model: model.clone(), hive, worker: worker.clone() }.into());
        self.outbox.put(format!("event.placed.{}.{worker}", key.0), placed, None);
        self.command(key, HiveCommand::Spawn { worker, model, spec }, term);
    }

    pub(super) fn stop(&mut self, term: u64, key: WorkerKey, mode: StopMode, why: String) {
        self.fleet.stop_commanded(&key, self.process.now());
        let worker = key.1.clone();
        self.command(key, HiveCommand::Stop { worker, why, mode }, term);
    }

    fn command(&self, key: WorkerKey, command: HiveCommand, term: u64) {
        let (connection, mailbox, process) = (self.connection.clone(), self.mailbox.clone(), self.process.clone());
        let id: Rc<str> = format!("command-{}", process.runtime().draw(|rng| rng.u64(..))).into();
        self.process.spawn(async move {
            let subject = format!("cmd.{}", key.0).into();
            let body = Some(Body::Command((command.clone(), CommandIssuer::Leader(term)).into()));
            let headers = Headers { id: Some(id), expect: None, time_to_live: Some(COMMAND) };
            let op = |request| Op::Publish { subject, body, size: 0, headers, request: Some(request) };
            if !matches!(connection.request(op).await, Ok(Answer::Stored { .. })) {
                process.sleep(RETRY_PAUSE).await;
                mailbox.put(Event::CommandNotStored(key, command.into(), term));
            }
        });
    }

    pub(super) fn command_again(&self, key: WorkerKey, command: HiveCommand, term: u64) {
        if self.fleet.awaits(&key) {
            self.command(key, command, self.term.unwrap_or(term));
        }
    }

    /// Returns the jobs of a worker that is unreachable together with its hive to the queue.
    pub(super) fn return_to_queue(&self, worker: &WorkerKey, jobs: Vec<JobInFlight>) {
        self.process.log(|| format!("returns {} jobs of {}", jobs.len(), worker.1));
        for job in jobs {
            let (reply, kind) = (job.ack.as_str().into(), AckKind::Nak(Duration::ZERO));
            self.connection.send(Op::Acknowledge { reply, kind, request: None });
        }
    }
}
