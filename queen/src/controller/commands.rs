//! Commands to hives, and jobs that are returned to the queue.

use std::time::{Duration, Instant};

use rbee_nats::{CommandIssuer, IssuedCommand};
use rbee_schema::{HiveCommand, JobInFlight, QueenEvent, StopMode, WorkerName};
use tokio::time::sleep;
use tracing::{Instrument as _, Span, info, warn};

use super::{Controller, Report, millis};
use crate::{
    decide::{fleet::WorkerKey, plan::NewWorker},
    metrics,
};

/// Pause before a command is sent again that the server did not confirm: long enough for the servers to elect a leader, and
/// short beside the start of a worker.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

impl Controller {
    pub(super) fn spawn(&mut self, term: u64, NewWorker { model, spec, hive, why }: NewWorker, now: Instant) {
        let worker = WorkerName::generate(&model);
        let (span, trace) = self.traces.place(&self.fleet, &model, &hive, &worker);
        span.in_scope(|| info!(why, "a worker is started"));
        metrics::spawn_commanded();
        let key = (hive.clone(), worker.clone());
        self.fleet.spawn_commanded(key.clone(), model.clone(), now);
        let expected_ms = self.fleet.pending_spawn(&key).and_then(|spawn| spawn.expected).map(millis);
        let placed = QueenEvent::Placed { model: model.clone(), hive, worker: worker.clone(), why, expected_ms };
        // Published before the command is sent, so that the next leader knows of it.
        self.publish(placed);
        let command = HiveCommand::Spawn { worker, model, spec };
        self.command(key, IssuedCommand { command, issuer: CommandIssuer::Leader(term), trace: Some(trace) }, span);
    }

    pub(super) fn stop(&mut self, term: u64, (worker, mode): (WorkerKey, StopMode), why: String, now: Instant) {
        let (hive, worker) = worker;
        info!(%hive, %worker, why, "a worker is stopped");
        let key = (hive.clone(), worker.clone());
        self.fleet.stop_commanded(&key, now);
        self.publish(QueenEvent::Stopping { hive, worker: worker.clone(), why: why.clone() });
        let command = HiveCommand::Stop { worker, why, mode };
        self.command(key, IssuedCommand { command, issuer: CommandIssuer::Leader(term), trace: None }, Span::none());
    }

    /// Sends a command to the hive of a worker. `span` lasts until the server has stored the command.
    fn command(&mut self, (hive, worker): WorkerKey, order: IssuedCommand, span: Span) {
        let bus = self.bus.clone();
        let commanding = async move {
            let Err(error) = bus.issue(&hive, &order).await else { return Report::Done };
            if !error.is_transient() {
                warn!(%hive, %error, "the server refused a command; the next plan decides again");
                return Report::Done;
            }
            warn!(%hive, %error, "the server did not confirm a command; it is sent again");
            // Timer: pause before a command is sent again.
            sleep(RETRY_PAUSE).await;
            Report::CommandNotStored((hive, worker), Box::new(order))
        };
        self.tasks.spawn(commanding.instrument(span));
    }

    /// Sends a command again that the server did not confirm, unless its hive has reported the effect or the command has
    /// expired. A hive carries out the same command once. If this queen leads in a new term by now, the command carries the
    /// new term; if another queen leads, the hive refuses the command.
    pub(super) fn command_again(&mut self, key: WorkerKey, order: IssuedCommand) {
        if self.fleet.awaits(&key) {
            let issuer = self.leading.leadership.term().map_or(order.issuer, CommandIssuer::Leader);
            self.command(key, IssuedCommand { issuer, ..order }, Span::current());
        }
    }

    /// Returns the jobs of a worker that is unreachable together with its hive to the queue. If the worker still runs them,
    /// the fence of the output refuses what it appends.
    pub(super) fn return_to_queue(&mut self, (hive, worker): WorkerKey, jobs: Vec<JobInFlight>) {
        let count = jobs.len();
        warn!(%hive, %worker, jobs = count, "a worker is unreachable with its hive; its jobs return to the queue");
        metrics::stranded(count);
        let (bus, outbox) = (self.bus.clone(), self.outbox.clone());
        self.tasks.spawn(async move {
            bus.return_to_queue(&outbox, &hive, &worker, jobs).await;
            Report::Done
        });
    }
}
