//! Workers, as their hives tell of them and as they tell of themselves.

use std::{
    collections::BTreeMap,
    time::{Instant, SystemTime},
};

use rbee_schema::{JobId, JobInFlight, QueenEvent, Tenant, WorkerHeartbeat, WorkerPhase, WorkerRecord};

use super::{Change, Fleet, Ordered, Pulse, Worker, WorkerKey, counts, ended_too_often, has_process, is_of, millis};
use crate::decide::liveness::Presence;

impl Fleet {
    /// A hive told about a worker.
    pub fn worker_is(&mut self, key: WorkerKey, record: WorkerRecord, now: Instant) -> Change {
        let ordered = self.orders.remove(&key);
        let hive = key.0.clone();
        self.touched.model(&record.model);
        if !has_process(record.phase) {
            self.touched.room();
        }
        self.by_model.entry(record.model.clone()).or_default().insert(key.clone());
        let worker = self.workers.entry(key.clone()).or_insert_with(|| Worker {
            record: record.clone(),
            since: None,
            jobs: Vec::new(),
            begun: BTreeMap::new(),
            returned: Vec::new(),
            tokens: 0,
            memory_bytes: 0,
            cache: None,
            heard: now,
            is_cut_off: false,
            idle_since: now,
            ready_since: None,
            told_to_stop: None,
            ordered,
            looping: None,
        });
        let counted = counts(worker.record.phase);
        let was_ready = worker.is_ready() && worker.ready_since.is_some();
        if record.phase == WorkerPhase::Ready && !was_ready {
            worker.ready_since = worker.ready_since.or(Some(now));
            worker.heard = now;
            worker.idle_since = now;
            self.held.worked(&hive, &record.model);
            self.demand.remove(&record.model);
            if let Some(Ordered { model, at, expected }) = worker.ordered.take() {
                let took = now.saturating_duration_since(at);
                self.queues.entry(model.clone()).or_default().started(took);
                let (expected_ms, took_ms) = (expected.map(millis), millis(took));
                self.news.push(QueenEvent::Fulfilled { model, hive: key.0, worker: key.1, expected_ms, took_ms });
            }
        }
        if !has_process(record.phase) {
            worker.ready_since = None;
            worker.jobs.clear();
            worker.begun.clear();
            worker.returned.clear();
            worker.cache = None;
        }
        worker.looping = match record.phase {
            WorkerPhase::CrashLoop => Some(record.failure.clone().unwrap_or_else(|| ended_too_often(&record))),
            WorkerPhase::Ready | WorkerPhase::Failed => None,
            WorkerPhase::Requested
            | WorkerPhase::Spawning
            | WorkerPhase::Loading
            | WorkerPhase::Suspect
            | WorkerPhase::Draining
            | WorkerPhase::Stopping
            | WorkerPhase::Backoff => worker.looping.take(),
        };
        if let (WorkerPhase::Failed, Some(failure)) = (record.phase, &record.failure) {
            self.held.failed(&hive, &record.model, failure, now + self.timers.retry);
        }
        worker.record = record;
        if counted && !counts(worker.record.phase) { Change::Fewer } else { Change::Same }
    }

    /// When the server stored what is known of a worker.
    pub fn worker_is_so_since(&mut self, key: &WorkerKey, stored: SystemTime) {
        if let Some(worker) = self.workers.get_mut(key) {
            worker.since = Some(stored);
        }
    }

    /// A worker is gone.
    pub fn worker_is_gone(&mut self, key: &WorkerKey) -> Change {
        let Some(worker) = self.workers.remove(key) else { return Change::Same };
        self.forget_key(&worker.record.model, key);
        // What was never started has left no room.
        if has_process(worker.record.phase) {
            self.held.has_room(&key.0);
        }
        self.touched.model(&worker.record.model);
        self.touched.room();
        Change::Fewer
    }

    /// A worker told what it runs.
    pub fn worker_beats(&mut self, key: &WorkerKey, beat: WorkerHeartbeat, now: Instant) -> Pulse {
        let Some(worker) = self.workers.get_mut(key) else { return Pulse::Unknown };
        if worker.record.epoch != beat.epoch {
            return Pulse::Steady;
        }
        (worker.heard, worker.is_cut_off) = (now, false);
        if !(worker.jobs.is_empty() && beat.jobs.is_empty()) {
            worker.idle_since = now;
        }
        let has_changed = worker.jobs != beat.jobs;
        if has_changed {
            self.touched.model(&worker.record.model);
            if beat.jobs.is_empty() {
                self.touched.room();
            }
            let queue = self.queues.entry(worker.record.model.clone()).or_default();
            let ended: Vec<(Tenant, JobId)> =
                worker.begun.keys().filter(|id| !beat.jobs.iter().any(|job| is_of(job, id))).cloned().collect();
            for id in ended {
                if let Some(begun) = worker.begun.remove(&id) {
                    queue.answered(now.saturating_duration_since(begun));
                }
            }
            let mut taken = 0;
            for job in &beat.jobs {
                worker.begun.entry((job.tenant.clone(), job.job.clone())).or_insert_with(|| {
                    taken += 1;
                    now
                });
            }
            queue.taken(taken, now);
        }
        worker.returned.retain(|job| beat.jobs.contains(job));
        worker.jobs = beat.jobs;
        worker.tokens = beat.tokens;
        worker.memory_bytes = beat.memory_bytes;
        worker.cache = beat.cache;
        if has_changed { Pulse::JobsChanged } else { Pulse::Steady }
    }

    /// The jobs of workers that are gone with their hive: neither of them is heard. They are to be given back, once.
    pub fn stranded(&mut self, now: Instant) -> Vec<(WorkerKey, Vec<JobInFlight>)> {
        let mut stranded = Vec::new();
        let patience = self.timers.suspect;
        for (key, worker) in &mut self.workers {
            let is_heard = self.hives.get(&key.0).is_some_and(|hive| hive.liveness.presence() == Presence::Online);
            let is_silent = worker.is_cut_off || now >= worker.heard + patience;
            if is_heard || worker.jobs.is_empty() || !is_silent {
                continue;
            }
            let jobs: Vec<JobInFlight> =
                worker.jobs.iter().filter(|job| !worker.returned.contains(job)).cloned().collect();
            if !jobs.is_empty() {
                worker.returned.extend(jobs.iter().cloned());
                stranded.push((key.clone(), jobs));
            }
        }
        stranded
    }

    /// When [`Fleet::stranded`] may find somebody although nothing is heard.
    fn next_stranded(&self) -> impl Iterator<Item = Instant> {
        let silent = self.hives.iter().filter(|(_, hive)| hive.liveness.presence() != Presence::Online);
        silent.flat_map(|(hive, _)| self.workers_of(hive)).filter_map(|(_, worker)| {
            let is_open = worker.jobs.iter().any(|job| !worker.returned.contains(job));
            is_open.then_some(worker.heard + self.timers.suspect)
        })
    }

    /// When the fleet may have changed although nothing was heard.
    pub fn next_change(&self) -> impl Iterator<Item = Instant> {
        let hives = self.hives.values().map(|hive| hive.liveness.deadline(&self.timers));
        let orders = self.orders.values().map(|order| order.at + self.timers.order);
        hives.chain(orders).chain(self.next_stranded())
    }
}
