//! Inputs of a queen, as `registries.rs`, `messages.rs` and `queue_count.rs` of its controller handle them.

use std::collections::BTreeMap;

use rbee_queen::decide::fleet::{HeartbeatOutcome, WorkerKey};
use rbee_schema::{HiveRecord, ModelName, ModelSpec, WorkerHeartbeat, WorkerRecord};

use super::state::{Controller, Entry, Event};
use crate::{
    broker::{Answer, Op},
    words::{Placed, flow_of},
};

impl Controller {
    pub(super) fn hive_entry(&mut self, entry: Entry<HiveRecord>) {
        let now = self.process.now();
        match entry {
            Entry::Set(key, record) => {
                let Ok(hive) = key.parse() else { return };
                let effects = self.fleet.hive_registered(hive, (*record).clone(), now);
                self.apply(effects);
            }
            Entry::Removed(key) => {
                if let Ok(hive) = key.parse() {
                    self.fleet.hive_key_removed(&hive);
                }
            }
            Entry::Synced => self.registry_read(),
        }
    }

    pub(super) fn worker_entry(&mut self, entry: Entry<WorkerRecord>) {
        let now = self.process.now();
        match entry {
            Entry::Set(key, record) => {
                let Some(worker) = worker_key(&key) else { return };
                let effects = self.fleet.worker_updated(worker.clone(), (*record).clone(), now);
                self.apply(effects);
                if self.fleet.worker(&worker).is_some_and(|worker| !worker.has_process()) {
                    self.jobs_returned(&worker);
                }
            }
            Entry::Removed(key) => {
                let Some(worker) = worker_key(&key) else { return };
                let effects = self.fleet.worker_record_removed(&worker, now);
                self.apply(effects);
                self.jobs_returned(&worker);
            }
            Entry::Synced => self.registry_read(),
        }
    }

    pub(super) fn model_entry(&mut self, entry: Entry<ModelSpec>) {
        match entry {
            Entry::Set(key, spec) => {
                let Ok(model) = key.parse::<ModelName>() else { return };
                if self.fleet.models().get(&model) != Some(&*spec) {
                    self.fleet.model_declared(model, (*spec).clone());
                    self.count_queue();
                }
            }
            Entry::Removed(_) => {}
            Entry::Synced => self.registry_read(),
        }
    }

    fn jobs_returned(&mut self, worker: &WorkerKey) {
        self.cancels_returned(worker);
        self.answer_begun(None);
    }

    fn registry_read(&mut self) {
        // A watch that is made again after a reconnect says so again.
        self.unread_registries = self.unread_registries.saturating_sub(1);
        self.fleet.mark_everything();
        self.count_queue();
    }

    pub(super) fn worker_beat(&mut self, worker: &WorkerKey, beat: WorkerHeartbeat) {
        let (now, model) = (self.process.now(), beat.model.clone());
        if self.fleet.worker_heartbeat(worker, beat, now) == HeartbeatOutcome::JobsChanged {
            self.cancels_heard(worker);
            self.answer_begun(Some(&model));
            self.recount_queue();
        }
    }

    pub(super) fn job_queued(&mut self, model: &ModelName) {
        if self.fleet.models().contains_key(model) {
            self.fleet.job_queued(model, self.process.now());
            self.recount_queue();
        }
    }

    pub(super) fn placed(&mut self, Placed { model, hive, worker }: &Placed) {
        if !self.has_read_registries() || self.fleet.hives().contains_key(hive) {
            self.fleet.spawn_commanded((hive.clone(), worker.clone()), model.clone(), self.process.now());
        }
    }

    pub(super) fn disconnected(&mut self, name: &str) {
        let mut parts = name.split('/');
        match (parts.next(), parts.next().and_then(|hive| hive.parse().ok()), parts.next()) {
            (Some("hive"), Some(hive), None) => {
                let effects = self.fleet.hive_disconnected(&hive);
                self.apply(effects);
            }
            (Some("worker"), Some(hive), Some(worker)) => {
                if let Ok(worker) = worker.parse() {
                    self.fleet.worker_disconnected(&(hive, worker));
                }
            }
            _ => {}
        }
    }

    /// Counts the queue now, unless a count is running or the registries were not read yet.
    pub(super) fn count_queue(&mut self) {
        if self.is_counting || !self.has_read_registries() {
            return;
        }
        (self.count_started, self.is_counting) = (Some(self.process.now()), true);
        let (connection, mailbox) = (self.connection.clone(), self.mailbox.clone());
        self.process.spawn(async move {
            let (stream, filter) = ("jobs".into(), "job.>".into());
            let counted = match connection.request(|request| Op::Count { stream, filter, request }).await {
                Ok(Answer::Counts(counts)) => {
                    let mut depths = BTreeMap::new();
                    for (subject, count) in counts {
                        if let Some((model, _)) = flow_of(&subject) {
                            *depths.entry(model).or_insert(0) += count;
                        }
                    }
                    Some(depths)
                }
                _ => None,
            };
            mailbox.put(Event::Counted(counted));
        });
    }

    fn recount_queue(&mut self) {
        let now = self.process.now();
        let is_due = self.count_started.is_none_or(|started| now >= started + self.fleet.timers().count);
        if is_due && self.fleet.queues().values().any(|queue| queue.waiting() > 0) {
            self.count_queue();
        }
    }

    pub(super) fn counted(&mut self, counted: Option<BTreeMap<ModelName, u64>>) {
        self.is_counting = false;
        let Some(depths) = counted else { return };
        let now = self.process.now();
        let started = self.count_started.unwrap_or(now);
        let is_empty = |model: &&ModelName| depths.get(model).is_none_or(|depth| *depth == 0);
        let emptied: Vec<ModelName> = self.fleet.queues().keys().filter(is_empty).cloned().collect();
        for model in emptied {
            self.fleet.queue_counted(&model, 0, started, now);
        }
        for (model, depth) in depths.iter().filter(|(_, depth)| **depth > 0) {
            if self.fleet.models().contains_key(model) {
                self.fleet.queue_counted(model, *depth, started, now);
            }
        }
    }
}

fn worker_key(key: &str) -> Option<WorkerKey> {
    let (hive, worker) = key.split_once('.')?;
    Some((hive.parse().ok()?, worker.parse().ok()?))
}
