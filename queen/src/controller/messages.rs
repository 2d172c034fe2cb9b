//! Inputs from messages: heartbeats, notices of jobs, placements of other queens, and reports of the server.

use std::time::Instant;

use rbee_nats::{Disconnected, Message, RefusedLogin, Subject};
use rbee_schema::{
    AlertEvent, AlertKind, Event as BusEvent, HiveHeartbeat, HiveName, QueenControl, QueenEvent, WorkerHeartbeat,
};
use tracing::{info, warn};

use super::{Controller, registries::ignore_key, state::Reason};
use crate::{decide::fleet::HeartbeatOutcome, metrics};

impl Controller {
    /// A heartbeat of a hive or worker. Heartbeats of unknown ones are counted and change nothing.
    pub(super) fn handle_heartbeat(&mut self, message: &Message) {
        let now = Instant::now();
        match self.bus.parse(&message.subject) {
            Some(Subject::HiveHeartbeat(hive)) => {
                let Ok(beat) = serde_json::from_slice::<HiveHeartbeat>(&message.payload) else { return unreadable() };
                if !self.fleet.hives().contains_key(&hive) {
                    return metrics::ignored("heartbeat of an unknown hive");
                }
                let effects = self.fleet.hive_heartbeat(&hive, &beat, now);
                self.apply(effects);
            }
            Some(Subject::WorkerHeartbeat(hive, worker)) => {
                let Ok(beat) = serde_json::from_slice::<WorkerHeartbeat>(&message.payload) else { return unreadable() };
                let (worker, model) = ((hive, worker), beat.model.clone());
                match self.fleet.worker_heartbeat(&worker, beat, now) {
                    HeartbeatOutcome::JobsChanged => {
                        self.cancels_heard(&worker);
                        self.answer_begun(Some(&model));
                        self.recount_queue(now);
                    }
                    HeartbeatOutcome::UnknownWorker => metrics::ignored("heartbeat of an unknown worker"),
                    HeartbeatOutcome::Unchanged => {}
                }
            }
            _ => unreadable(),
        }
    }

    /// A job was queued.
    pub(super) fn handle_queued(&mut self, message: &Message) {
        self.note_deadlines(message);
        let Some((model, sequence, tenant, _)) = self.bus.queued_notice(message) else {
            ignore_key("job", &message.subject);
            if let Some(subject) = self.bus.misnamed_notice(message) {
                self.refuse(subject, Reason::Misnamed);
            }
            return;
        };
        if self.fleet.models().contains_key(&model) {
            let now = Instant::now();
            self.traces.job_queued(&self.fleet, &model, self.bus.queued_trace(message));
            // A job of a throttled tenant needs no worker before its tenant is released, when the queue is counted.
            if self.tenants.known.throttled_until(&tenant, now).is_none() {
                self.fleet.job_queued(&model, now);
            }
            if self.leads() {
                self.tenants.known.job_stored(&tenant, sequence, now);
            }
            self.recount_queue(now);
        } else if self.has_read_registries() {
            self.refuse_unknown(model);
        }
    }

    /// A job was dead-lettered.
    pub(super) fn handle_dead_letter(&mut self, message: &Message) {
        let Some(Subject::Dead(model, tenant, job)) = self.bus.parse(&message.subject) else { return };
        if self.leads() {
            let raised = AlertEvent::Raised {
                about: model.to_string(),
                message: format!(
                    "job {job} of tenant {tenant} for {model} was dead-lettered: every worker that ran it died"
                ),
                remedy: format!(
                    "`rbee jobs --dead` lists the dead letters, `rbee explain {job} --tenant {tenant}` shows what happened, and \
                     `rbee retry {job} --tenant {tenant}` submits the job again"
                ),
            };
            // Many jobs may fail at once; the server stores one alert of an id within its window for duplicates.
            let id = format!("dead-letter-{model}");
            self.outbox.publish_once(&BusEvent::Alert(AlertKind::DeadLetter, raised), &id);
        }
    }

    /// A queen commanded a spawn, for its plan or for a request. It must not be commanded again.
    pub(super) fn handle_placed(&mut self, message: &Message) {
        match serde_json::from_slice(&message.payload) {
            Ok(QueenEvent::Placed { model, hive, worker, .. }) if self.may_exist(&hive) => {
                self.fleet.spawn_commanded((hive, worker), model, Instant::now());
            }
            _ => metrics::ignored("order of a queen"),
        }
    }

    /// True if a hive is known or its registry entry may not have been read yet.
    fn may_exist(&self, hive: &HiveName) -> bool {
        !self.has_read_registries() || self.fleet.hives().contains_key(hive)
    }

    /// The server reported the end of a connection.
    pub(super) fn handle_disconnect(&mut self, message: &Message) {
        match Disconnected::read(message) {
            Some(Disconnected::Hive(hive)) => {
                let effects = self.fleet.hive_disconnected(&hive);
                self.apply(effects);
            }
            Some(Disconnected::Worker(hive, worker)) => self.fleet.worker_disconnected(&(hive, worker)),
            // The campaign for the lease handles the loss of a leader.
            Some(Disconnected::Queen(_)) | None => {}
        }
    }

    /// The server refused a login.
    pub(super) fn handle_refused_login(&mut self, message: &Message) {
        let Some(RefusedLogin { user, host, why }) = RefusedLogin::read(message) else { return };
        metrics::login_refused();
        if self.leads() {
            // A client that keeps trying is reported now and then; the metric counts every try.
            let id = format!("login-{user}-{host}");
            let refused = QueenEvent::LoginRefused { user, host, why };
            self.outbox.publish_once(&BusEvent::Queen(self.name.clone(), refused), &id);
        }
    }

    /// A command to all queens.
    pub(super) fn handle_control(&mut self, message: &Message) {
        match serde_json::from_slice(&message.payload) {
            Ok(QueenControl::Stop { why }) => {
                info!(why, "the queen was told to stop over the bus");
                self.stop_reason = Some(why);
            }
            Err(error) => warn!(%error, "a command to the queens could not be read"),
        }
    }
}

fn unreadable() {
    metrics::ignored("heartbeat");
}
