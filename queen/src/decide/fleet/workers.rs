//! Inputs about workers: records of their hives, and their own heartbeats.

use std::time::{Instant, SystemTime};

use rbee_schema::{JobInFlight, QueenEvent, WorkerHeartbeat, WorkerPhase, WorkerRecord};

use super::{
    Effect, Fleet, HeartbeatOutcome, PendingSpawn, Worker, WorkerKey,
    clock::millis,
    worker::{Contact, JobsChange, has_process},
};
use crate::decide::liveness::Presence;

impl Fleet {
    /// A hive wrote the record of a worker.
    pub fn worker_updated(&mut self, key: WorkerKey, record: WorkerRecord, now: Instant) -> Vec<Effect> {
        self.dirty.mark_model(&record.model);
        if !has_process(record.phase) {
            self.dirty.mark_room();
        }
        if let (WorkerPhase::Failed, Some(failure)) = (record.phase, &record.failure) {
            self.backoffs.record_failure(&key.0, &record.model, failure, now + self.timers.retry);
        }
        let create = |spawn| Worker::new(record.clone(), spawn, now);
        let worker = self.table.worker_or_insert(&key, &record.model, create);
        let counted = worker.counts();
        let was_ready = worker.is_ready() && worker.ready_since.is_some();
        let becomes_ready = record.phase == WorkerPhase::Ready && !was_ready;
        worker.set_record(record);
        let is_lost = counted && !worker.counts();
        let mut effects = Vec::new();
        if becomes_ready {
            effects.extend(self.worker_became_ready(key, now));
        }
        effects.extend(is_lost.then_some(Effect::CountQueue));
        effects
    }

    fn worker_became_ready(&mut self, key: WorkerKey, now: Instant) -> Option<Effect> {
        let worker = self.table.worker_mut(&key)?;
        worker.ready_since = worker.ready_since.or(Some(now));
        worker.contact.heard = now;
        worker.idle_since = now;
        self.backoffs.record_success(&key.0, &worker.record.model);
        self.jobs.demand.remove(&worker.record.model);
        let PendingSpawn { model, commanded_at, expected } = worker.spawn.take()?;
        let took = now.saturating_duration_since(commanded_at);
        self.jobs.queues.entry(model.clone()).or_default().record_start(took);
        let (hive, worker) = key;
        let (expected_ms, took_ms) = (expected.map(millis), millis(took));
        Some(Effect::Publish(QueenEvent::Fulfilled { model, hive, worker, expected_ms, took_ms }))
    }

    /// The server stored the record of a worker at this time.
    pub fn worker_recorded_at(&mut self, key: &WorkerKey, stored: SystemTime) {
        if let Some(worker) = self.table.worker_mut(key) {
            worker.recorded_at = Some(stored);
        }
    }

    /// The record of a worker was deleted. A worker that serves, as far as its hive and its heartbeats say, stays known for a
    /// moment: unless it has ended, its hive writes the record again that somebody else has deleted.
    pub fn worker_record_removed(&mut self, key: &WorkerKey, now: Instant) -> Vec<Effect> {
        let is_hive_online = self.hives.get(&key.0).is_some_and(|hive| hive.liveness.presence() == Presence::Online);
        let timeout = self.timers.suspect;
        match self.table.worker_mut(key) {
            Some(worker) if is_hive_online && worker.serves(now, timeout) => {
                worker.record_missing_since = Some(now);
                Vec::new()
            }
            _ => self.worker_removed(key),
        }
    }

    /// Removes the workers whose hive did not write a deleted record again.
    pub(super) fn remove_unrecorded(&mut self, now: Instant) -> Vec<Effect> {
        let is_over =
            |worker: &Worker| worker.record_missing_since.is_some_and(|since| now >= since + self.timers.suspect);
        let gone: Vec<WorkerKey> =
            self.table.workers().iter().filter(|(_, worker)| is_over(worker)).map(|(key, _)| key.clone()).collect();
        gone.iter().flat_map(|key| self.worker_removed(key)).collect()
    }

    /// A worker is gone.
    pub fn worker_removed(&mut self, key: &WorkerKey) -> Vec<Effect> {
        let Some(worker) = self.table.remove_worker(key) else { return Vec::new() };
        // A worker that was never started frees no room.
        if worker.has_process() {
            self.backoffs.room_freed(&key.0);
        }
        self.dirty.mark_model(&worker.record.model);
        self.dirty.mark_room();
        vec![Effect::CountQueue]
    }

    /// A worker sent a heartbeat, with the jobs that it runs.
    pub fn worker_heartbeat(&mut self, key: &WorkerKey, beat: WorkerHeartbeat, now: Instant) -> HeartbeatOutcome {
        let Some(worker) = self.table.worker_mut(key) else { return HeartbeatOutcome::UnknownWorker };
        if worker.record.epoch != beat.epoch {
            return HeartbeatOutcome::Unchanged;
        }
        worker.contact = Contact { heard: now, is_disconnected: false };
        if !(worker.jobs.is_empty() && beat.jobs.is_empty()) {
            worker.idle_since = now;
        }
        worker.usage.tokens = beat.tokens;
        worker.usage.memory_bytes = beat.memory_bytes;
        worker.usage.cache = beat.cache;
        let is_idle = beat.jobs.is_empty();
        let Some(JobsChange { finished, taken }) = worker.jobs.update(beat.jobs, now) else {
            return HeartbeatOutcome::Unchanged;
        };
        let model = &worker.record.model;
        self.dirty.mark_model(model);
        if is_idle {
            self.dirty.mark_room();
        }
        let queue = self.jobs.queues.entry(model.clone()).or_default();
        for took in finished {
            queue.record_answer(took);
        }
        queue.jobs_taken(taken, now);
        HeartbeatOutcome::JobsChanged
    }

    /// The server reported the end of a worker's connection. Its hive reports the worker's end, unless the hive is gone too.
    pub fn worker_disconnected(&mut self, key: &WorkerKey) {
        if let Some(worker) = self.table.worker_mut(key) {
            worker.contact.is_disconnected = true;
            self.dirty.mark_model(&worker.record.model);
        }
    }

    /// Jobs of workers that are unreachable together with their hives, each job once. They must be returned to the queue.
    pub fn take_stranded_jobs(&mut self, now: Instant) -> Vec<(WorkerKey, Vec<JobInFlight>)> {
        let mut stranded = Vec::new();
        let timeout = self.timers.suspect;
        for (key, worker) in self.table.workers_mut() {
            let is_hive_online =
                self.hives.get(&key.0).is_some_and(|hive| hive.liveness.presence() == Presence::Online);
            if is_hive_online || worker.jobs.is_empty() || !worker.is_unreachable(now, timeout) {
                continue;
            }
            let jobs = worker.jobs.take_unreturned(now);
            if !jobs.is_empty() {
                stranded.push((key.clone(), jobs));
            }
        }
        stranded
    }
}
