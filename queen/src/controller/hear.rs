//! What a queen hears.

use std::time::Instant;

use rbee_nats::{AppendError, Disconnected, Entry, Message, RefusedLogin, Registry, Subject};
use rbee_schema::{
    AlertEvent, AlertKind, Chunk, Event as BusEvent, Failure, FailureCode, FileRecord, HiveHeartbeat, HiveName,
    HiveRecord, ModelEvent, ModelName, ModelSpec, QueenControl, QueenEvent, WorkerHeartbeat, WorkerRecord,
};
use tokio::task::JoinError;
use tracing::{debug, error, info, warn};

use super::{Controller, Report, STOOD_STILL};
use crate::{
    decide::fleet::{Change, Pulse, WorkerKey},
    metrics,
};

impl Controller {
    /// A heartbeat of a hive or of a worker. Those of hives and workers that nobody knows are counted and change nothing.
    pub(super) fn hear_beat(&mut self, message: &Message) {
        let now = Instant::now();
        match self.bus.parse(&message.subject) {
            Some(Subject::HiveHeartbeat(hive)) => {
                let Ok(beat) = serde_json::from_slice::<HiveHeartbeat>(&message.payload) else { return unreadable() };
                if !self.fleet.hives.contains_key(&hive) {
                    return metrics::ignored("heartbeat of an unknown hive");
                }
                let change = self.fleet.hive_beats(&hive, &beat, now);
                self.look_for_jobs(change);
            }
            Some(Subject::WorkerHeartbeat(hive, worker)) => {
                let Ok(beat) = serde_json::from_slice::<WorkerHeartbeat>(&message.payload) else { return unreadable() };
                match self.fleet.worker_beats(&(hive, worker), beat, now) {
                    Pulse::JobsChanged => self.recount(now),
                    Pulse::Unknown => metrics::ignored("heartbeat of an unknown worker"),
                    Pulse::Steady => {}
                }
            }
            _ => unreadable(),
        }
    }

    /// While jobs wait, notices that were lost and jobs that went otherwise are set right now and then.
    fn recount(&mut self, now: Instant) {
        let is_due = self.counted.is_none_or(|counted| now >= counted + self.fleet.timers.count);
        if is_due && self.unread == 0 && self.fleet.queues.values().any(|queue| queue.waiting() > 0) {
            self.count(now);
        }
    }

    pub(super) fn hear_hive(&mut self, entry: Entry<HiveRecord>) {
        match entry {
            Entry::Set { key, document, .. } => {
                let Ok(hive) = key.parse() else { return ignored("hive", &key) };
                if !self.fleet.hives.contains_key(&hive) {
                    info!(%hive, "a hive is there");
                }
                let change = self.fleet.hive_is_there(hive, document, Instant::now());
                self.look_for_jobs(change);
            }
            Entry::Removed(key) => {
                let Ok(hive) = key.parse() else { return };
                info!(%hive, "the key of a hive is gone");
                self.fleet.hive_has_no_key(&hive);
            }
            Entry::Unreadable(key, error) => {
                metrics::ignored("record of a hive");
                warn!(key, error, "a hive's record cannot be read");
            }
            Entry::Synced => self.has_read(),
        }
    }

    pub(super) fn hear_worker(&mut self, entry: Entry<WorkerRecord>) {
        match entry {
            Entry::Set { key, document, stored, .. } => {
                let Some(worker) = worker_key(&key) else { return ignored("worker", &key) };
                debug!(key, phase = document.phase.as_str(), "a worker changed");
                let change = self.fleet.worker_is(worker.clone(), document, Instant::now());
                self.fleet.worker_is_so_since(&worker, stored);
                self.look_for_jobs(change);
            }
            Entry::Removed(key) => {
                let Some(worker) = worker_key(&key) else { return };
                let change = self.fleet.worker_is_gone(&worker);
                self.look_for_jobs(change);
            }
            Entry::Unreadable(key, error) => {
                metrics::ignored("record of a worker");
                warn!(key, error, "a worker's record cannot be read");
            }
            Entry::Synced => self.has_read(),
        }
    }

    pub(super) fn hear_model(&mut self, entry: Entry<ModelSpec>) {
        match entry {
            Entry::Set { key, document: spec, revision, .. } => {
                let Ok(model) = key.parse::<ModelName>() else { return ignored("model", &key) };
                match spec.check() {
                    Err(failure) => self.refuse_declaration(model, failure),
                    Ok(()) if self.fleet.models.get(&model) == Some(&spec) => {}
                    Ok(()) => self.declared(model, spec, revision),
                }
            }
            Entry::Unreadable(key, error) => {
                let Ok(model) = key.parse::<ModelName>() else { return ignored("model", &key) };
                self.refuse_declaration(model, Failure::new(FailureCode::InvalidRequest, error));
            }
            Entry::Removed(key) => {
                let Ok(model) = key.parse::<ModelName>() else { return };
                let was_known = self.fleet.models.contains_key(&model) || self.fleet.refused.contains_key(&model);
                self.fleet.model_is_gone(&model);
                if was_known {
                    self.tell_of_model(model, ModelEvent::Withdrawn {});
                }
            }
            Entry::Synced => self.has_read(),
        }
    }

    fn declared(&mut self, model: ModelName, spec: ModelSpec, revision: u64) {
        info!(%model, reference = %spec.reference, "a model is declared");
        let before = self.fleet.model_is(model.clone(), spec.clone());
        if self.unread == 0 {
            // Every queen tells, also while none leads; it is stored once.
            let id = format!("declared-{model}-{revision}");
            self.outbox.publish_once(
                &BusEvent::Model(model, ModelEvent::Declared { spec: Box::new(spec), before: before.map(Box::new) }),
                &id,
            );
        }
        self.look_for_jobs(Change::Fewer);
    }

    fn refuse_declaration(&mut self, model: ModelName, failure: Failure) {
        metrics::ignored("declaration");
        if self.fleet.model_is_refused(model.clone(), failure.clone()) {
            warn!(%model, %failure, "a declaration has no effect");
            self.tell_of_model(model, ModelEvent::Refused { failure });
        }
    }

    /// The queen who leads tells. What was there before she began was told then.
    fn tell_of_model(&self, model: ModelName, event: ModelEvent) {
        if self.unread == 0 && self.standing.term().is_some() {
            self.outbox.publish(&BusEvent::Model(model, event));
        }
    }

    pub(super) fn hear_file(&mut self, entry: Entry<FileRecord>) {
        let hive = |key: &str| key.split_once('.').and_then(|(hive, _)| hive.parse().ok());
        match entry {
            Entry::Set { key, document, .. } => match hive(&key) {
                Some(hive) => self.fleet.file_is(hive, key, document.reference),
                None => ignored("file", &key),
            },
            Entry::Removed(key) => {
                if let Some(hive) = hive(&key) {
                    self.fleet.file_is_gone(&hive, &key);
                }
            }
            Entry::Unreadable(key, error) => warn!(key, error, "the record of a model file cannot be read"),
            Entry::Synced => self.has_read(),
        }
    }

    pub(super) fn hear_queued(&mut self, message: &Message) {
        let Some((model, ..)) = self.bus.queued_notice(message) else { return ignored("job", &message.subject) };
        if self.fleet.models.contains_key(&model) {
            let now = Instant::now();
            self.traces.job_waits(&self.fleet, &model, self.bus.queued_trace(message));
            self.fleet.job_waits(&model, now);
            self.recount(now);
        } else if self.unread == 0 {
            self.refuse_unknown(model);
        }
    }

    /// A cancelled job that nobody has begun is answered here; a worker answers the one that it runs.
    pub(super) fn hear_cancel(&mut self, message: &Message) {
        let Some(Subject::Cancel(tenant, job)) = self.bus.parse(&message.subject) else { return };
        let bus = self.bus.clone();
        self.tasks.spawn(async move {
            let error = Failure::new(FailureCode::Cancelled, "the job was cancelled before it ran");
            match bus.append(&tenant, &job, &Chunk::Error { error }, 0).await {
                Ok(_) | Err(AppendError::Stale) => {}
                Err(AppendError::Bus(error)) => warn!(%job, %error, "a job could not be cancelled"),
            }
            Report::Done
        });
    }

    /// A job was given up and kept.
    pub(super) fn hear_dead(&mut self, message: &Message) {
        let Some(Subject::Dead(model)) = self.bus.parse(&message.subject) else { return };
        if self.standing.term().is_some() {
            let raised = AlertEvent::Raised {
                about: model.to_string(),
                message: format!("a job for {model} was given up: it ended every worker that took it"),
                remedy: "the stream rbee_dead keeps it, with the reason".to_owned(),
            };
            // Many may come at once, and one word is enough for a while.
            let id = format!("dead-letter-{model}");
            self.outbox.publish_once(&BusEvent::Alert(AlertKind::DeadLetter, raised), &id);
        }
    }

    /// A queen has commanded a spawn, by herself or for somebody who asked for it: nobody is to command it again.
    pub(super) fn hear_placed(&mut self, message: &Message) {
        match serde_json::from_slice(&message.payload) {
            Ok(QueenEvent::Placed { model, hive, worker, .. }) if self.knows(&hive) => {
                self.fleet.ordered((hive, worker), model, Instant::now());
            }
            _ => metrics::ignored("order of a queen"),
        }
    }

    /// The server tells of the end of a connection.
    pub(super) fn hear_disconnect(&mut self, message: &Message) {
        match Disconnected::read(message) {
            Some(Disconnected::Hive(hive)) => {
                let change = self.fleet.hive_is_disconnected(&hive);
                self.look_for_jobs(change);
            }
            Some(Disconnected::Worker(hive, worker)) => self.fleet.worker_is_disconnected(&(hive, worker)),
            // Who leads is seen to by the campaign.
            Some(Disconnected::Queen(_)) | None => {}
        }
    }

    /// The server tells whom it has not let in.
    pub(super) fn hear_refused_login(&mut self, message: &Message) {
        let Some(RefusedLogin { user, host, why }) = RefusedLogin::read(message) else { return };
        metrics::login_refused();
        if self.standing.term().is_some() {
            // Whoever tries again and again is told once in a while, and every try is counted.
            let id = format!("login-{user}-{host}");
            let refused = QueenEvent::LoginRefused { user, host, why };
            self.outbox.publish_once(&BusEvent::Queen(self.name.clone(), refused), &id);
        }
    }

    /// Whether a hive is known, or may be one that she has not read of yet.
    fn knows(&self, hive: &HiveName) -> bool {
        self.unread > 0 || self.fleet.hives.contains_key(hive)
    }

    pub(super) fn hear_control(&mut self, message: &Message) {
        match serde_json::from_slice(&message.payload) {
            Ok(QueenControl::Stop { why }) => {
                info!(why, "the queen is told to end");
                self.ends = Some(why);
            }
            Err(error) => warn!(%error, "what queens are told cannot be read"),
        }
    }

    pub(super) fn hear_report(&mut self, report: Result<Report, JoinError>) {
        match report {
            Ok(Report::Depths(depths)) => self.hear_depths(&depths),
            Ok(Report::NotStored(worker, order)) => self.command_again(worker, *order),
            Ok(Report::Done) => {}
            Err(error) => error!(%error, "a task of the queen panicked"),
        }
    }

    fn hear_depths(&mut self, depths: &[(ModelName, u64)]) {
        self.is_counting = false;
        let now = Instant::now();
        let emptied: Vec<ModelName> = self.fleet.queues.keys().filter(|model| !has(depths, model)).cloned().collect();
        for model in emptied {
            self.fleet.jobs_found(&model, 0, now);
        }
        for (model, depth) in depths.iter().filter(|(_, depth)| *depth > 0) {
            debug!(%model, depth, "jobs are in the queue");
            if self.fleet.models.contains_key(model) {
                self.fleet.jobs_found(model, *depth, now);
            } else {
                self.refuse_unknown(model.clone());
            }
        }
    }

    /// The clock: it is this queen's own time that has passed.
    pub(super) fn hear_clock(&mut self, due: Option<Instant>) {
        let now = Instant::now();
        if due.is_some_and(|due| now > due + STOOD_STILL) {
            self.was_deaf("this queen stood still");
        }
        let (change, forgotten) = self.fleet.pass(now);
        self.fleet.touched.everything();
        self.look_for_jobs(change);
        if self.standing.term().is_some() {
            let workers = Registry::workers(&self.bus);
            for (hive, worker) in forgotten {
                workers.remove_ordered(&self.outbox, &format!("{hive}.{worker}"));
            }
        }
    }

    pub(super) fn was_deaf(&mut self, why: &str) {
        warn!(why, "nothing could be heard for a while; every hive is given its time anew");
        self.fleet.was_deaf(Instant::now());
        self.look_for_jobs(Change::Fewer);
    }

    fn has_read(&mut self) {
        self.unread -= 1;
        self.fleet.touched.everything();
        self.look_for_jobs(Change::Fewer);
    }
}

fn has(depths: &[(ModelName, u64)], model: &ModelName) -> bool {
    depths.iter().any(|(found, depth)| found == model && *depth > 0)
}

fn worker_key(key: &str) -> Option<WorkerKey> {
    let (hive, worker) = key.split_once('.')?;
    Some((hive.parse().ok()?, worker.parse().ok()?))
}

/// What is no name of ours is counted; telling of each would be a way to fill logs.
fn ignored(what: &'static str, key: &str) {
    metrics::ignored(what);
    debug!(what, key, "its key holds what is no name");
}

fn unreadable() {
    metrics::ignored("heartbeat");
}
