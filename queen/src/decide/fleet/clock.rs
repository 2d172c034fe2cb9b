//! Changes that time alone makes.

use std::time::{Duration, Instant};

use rbee_schema::{HiveName, QueenEvent};

use super::{Effect, Fleet, WorkerKey};
use crate::decide::liveness::{Presence, Transition};

/// A hive whose presence has changed.
struct Changed {
    hive: HiveName,
    transition: Transition,
    silence: Duration,
    has_key: bool,
}

impl Fleet {
    /// Applies the deadlines of hives, and of deleted records, that have passed by `now`.
    pub fn advance(&mut self, now: Instant) -> Vec<Effect> {
        let timers = &self.timers;
        let changed = |(name, hive): (&HiveName, &mut super::Hive)| {
            let transition = hive.liveness.advance(now, timers)?;
            Some(Changed { hive: name.clone(), transition, silence: hive.liveness.silence(now), has_key: hive.has_key })
        };
        let changed: Vec<Changed> = self.hives.iter_mut().filter_map(changed).collect();
        let mut effects: Vec<Effect> = changed.into_iter().flat_map(|changed| self.presence_changed(changed)).collect();
        effects.extend(self.remove_unrecorded(now));
        effects
    }

    fn presence_changed(&mut self, Changed { hive, transition, silence, has_key }: Changed) -> Vec<Effect> {
        self.dirty.mark_everything();
        match transition {
            Transition::Suspected if !has_key => {
                self.forget_hive(&hive);
                vec![Effect::CountQueue]
            }
            Transition::Suspected => {
                let why = format!("no heartbeat for {silence:.1?}");
                vec![Effect::Publish(QueenEvent::HiveSuspected { hive, why })]
            }
            Transition::Lost => {
                let workers = count(self.workers_of(&hive).count());
                let lost = QueenEvent::HiveLost { hive, workers, heartbeat_age_ms: millis(silence) };
                vec![Effect::Publish(lost), Effect::CountQueue]
            }
            Transition::Removed => self.remove_hive(hive),
        }
    }

    /// Removes a hive that is no longer expected to return, with its workers.
    fn remove_hive(&mut self, hive: HiveName) -> Vec<Effect> {
        let workers: Vec<WorkerKey> = self.workers_of(&hive).map(|(key, _)| key.clone()).collect();
        self.forget_hive(&hive);
        for key in &workers {
            self.worker_removed(key);
        }
        let removed = QueenEvent::HiveRemoved { hive, workers: count(workers.len()) };
        let mut effects = vec![Effect::Publish(removed), Effect::CountQueue];
        effects.extend(workers.into_iter().map(Effect::DeleteRecord));
        effects
    }

    /// Restarts the heartbeat timeouts, because the queen could not receive anything until now.
    pub fn restart_timeouts(&mut self, now: Instant) {
        self.dirty.mark_everything();
        for hive in self.hives.values_mut() {
            hive.liveness.restart_timeout(now);
        }
        for (_, worker) in self.table.workers_mut() {
            worker.contact.heard = now;
        }
    }

    /// Times at which the fleet may change without any input.
    pub fn deadlines(&self) -> impl Iterator<Item = Instant> {
        let hives = self.hives.values().map(|hive| hive.liveness.deadline(&self.timers));
        let commands = self.table.pending().values().map(|spawn| spawn.commanded_at + self.timers.order);
        let missing = self.table.workers().values().filter_map(|worker| worker.record_missing_since);
        let missing = missing.map(|since| since + self.timers.suspect);
        hives.chain(commands).chain(missing).chain(self.stranding_deadlines()).chain(self.answering_deadlines())
    }

    /// Times at which [`Fleet::is_answered`] may end for a model in demand without any input.
    fn answering_deadlines(&self) -> impl Iterator<Item = Instant> {
        let workers = self.jobs.demand.keys().flat_map(|model| self.workers_for(model));
        workers.map(|(_, worker)| worker.contact.heard + self.timers.suspect)
    }

    /// Times at which [`Fleet::take_stranded_jobs`] may find more jobs without any input.
    fn stranding_deadlines(&self) -> impl Iterator<Item = Instant> {
        let offline = self.hives.iter().filter(|(_, hive)| hive.liveness.presence() != Presence::Online);
        let workers = offline.flat_map(|(hive, _)| self.workers_of(hive));
        let has_jobs = workers.filter(|(_, worker)| worker.jobs.has_unreturned());
        has_jobs.map(|(_, worker)| worker.contact.heard + self.timers.suspect)
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
