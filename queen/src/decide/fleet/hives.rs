//! Hives that come, beat, fall silent, and return; and the model files that they have.

use std::time::{Duration, Instant};

use rbee_schema::{HiveBeat, HiveName, HiveRecord, ModelReference, QueenEvent, Room};

use super::{Change, Fleet, Hive, WorkerKey, millis, number};
use crate::decide::liveness::{Liveness, Presence, Turn};

impl Fleet {
    /// A hive has told about itself. Only of another run is that a sign of life: what it has written stays for a while
    /// after it, and is told again whenever it is read anew.
    pub fn hive_is_there(&mut self, hive: HiveName, record: HiveRecord, now: Instant) -> Change {
        let is_another_run = self.hives.get(&hive).is_some_and(|before| before.record.epoch != record.epoch);
        if is_another_run {
            // Its machine may have been mended meanwhile.
            self.held.forget_hive(&hive);
        }
        match self.hives.get_mut(&hive) {
            Some(known) => {
                if known.record != record {
                    self.touched.everything();
                    known.record = record;
                }
                if is_another_run { self.hear_hive(&hive, now) } else { Change::Same }
            }
            None => {
                self.touched.everything();
                self.hives.insert(hive, Hive { record, liveness: Liveness::new(now), room: None });
                Change::Same
            }
        }
    }

    /// A hive beats.
    pub fn hive_beats(&mut self, hive: &HiveName, beat: &HiveBeat, now: Instant) -> Change {
        let Some(known) = self.hives.get_mut(hive).filter(|known| known.record.epoch == beat.epoch) else {
            return Change::Same;
        };
        let free = |room: Option<Room>| room.map_or(0, |room| room.memory);
        if free(beat.room) > free(known.room) {
            self.touched.room();
        }
        known.room = beat.room.or(known.room);
        self.hear_hive(hive, now)
    }

    pub(super) fn hear_hive(&mut self, hive: &HiveName, now: Instant) -> Change {
        let Some(known) = self.hives.get_mut(hive) else { return Change::Same };
        let Some(silence) = known.liveness.hear(now) else { return Change::Same };
        let epoch = known.record.epoch;
        self.touched.everything();
        self.news.push(QueenEvent::HiveReturned { hive: hive.clone(), epoch, silent_ms: millis(silence) });
        Change::Fewer
    }

    /// The key of a hive is gone: it has ended in good order, or it was not renewed.
    pub fn hive_is_gone(&mut self, hive: &HiveName) -> Change {
        match self.hives.get(hive).map(|known| known.liveness.presence()) {
            // It has been silent for long already, and may return.
            Some(Presence::Lost | Presence::Suspect) | None => Change::Same,
            Some(Presence::Online) => {
                self.forget_hive(hive);
                Change::Fewer
            }
        }
    }

    /// The server says that the connection of a hive is gone.
    pub fn hive_is_disconnected(&mut self, hive: &HiveName) {
        let turn = self.hives.get_mut(hive).and_then(|known| known.liveness.disconnected());
        if turn.is_some() {
            self.touched.everything();
            let why = "its connection to the bus is gone".to_owned();
            self.news.push(QueenEvent::HiveSuspected { hive: hive.clone(), why });
        }
    }

    /// The server says that the connection of a worker is gone. Its hive says more of it, unless that is gone too.
    pub fn worker_is_disconnected(&mut self, key: &WorkerKey) {
        if let Some(worker) = self.workers.get_mut(key) {
            worker.is_cut_off = true;
        }
    }

    pub(super) fn forget_hive(&mut self, hive: &HiveName) {
        self.touched.everything();
        self.hives.remove(hive);
        self.files.remove(hive);
        self.held.forget_hive(hive);
        let orders: Vec<WorkerKey> = self.orders.keys().filter(|(at, _)| at == hive).cloned().collect();
        for key in orders {
            self.forget_order(&key);
        }
    }

    /// What time alone has changed. Returns the workers of hives that are not expected any more: they are forgotten, and
    /// their records are to be removed.
    pub fn pass(&mut self, now: Instant) -> (Change, Vec<WorkerKey>) {
        let (mut change, mut gone) = (Change::Same, Vec::new());
        let turns: Vec<(HiveName, Turn, Duration)> = self
            .hives
            .iter_mut()
            .filter_map(|(name, hive)| {
                let turn = hive.liveness.pass(now, &self.timers)?;
                Some((name.clone(), turn, hive.liveness.silence(now)))
            })
            .collect();
        for (hive, turn, silence) in turns {
            self.touched.everything();
            match turn {
                Turn::Suspected => {
                    let why = format!("no heartbeat for {silence:.1?}");
                    self.news.push(QueenEvent::HiveSuspected { hive, why });
                }
                Turn::Lost => {
                    change = Change::Fewer;
                    let workers = number(self.workers_of(&hive).count());
                    self.news.push(QueenEvent::HiveLost { hive: hive.clone(), workers, silent_ms: millis(silence) });
                }
                Turn::Removed => {
                    change = Change::Fewer;
                    let workers: Vec<WorkerKey> = self.workers_of(&hive).map(|(key, _)| key.clone()).collect();
                    let count = number(workers.len());
                    self.news.push(QueenEvent::HiveRemoved { hive: hive.clone(), workers: count });
                    self.forget_hive(&hive);
                    for key in &workers {
                        self.worker_is_gone(key);
                    }
                    gone.extend(workers);
                }
            }
        }
        (change, gone)
    }

    /// The queen herself could hear nothing until now.
    pub fn was_deaf(&mut self, now: Instant) {
        self.touched.everything();
        for hive in self.hives.values_mut() {
            hive.liveness.excuse(now);
        }
        for worker in self.workers.values_mut() {
            worker.heard = now;
        }
    }

    /// A hive has fetched a model file.
    pub fn file_is(&mut self, hive: HiveName, key: String, reference: ModelReference) {
        self.files.entry(hive).or_default().insert(key, reference);
    }

    /// A hive has deleted a model file.
    pub fn file_is_gone(&mut self, hive: &HiveName, key: &str) {
        if let Some(files) = self.files.get_mut(hive) {
            files.remove(key);
        }
    }

    /// Whether a hive has a model file, as far as is known.
    pub fn has_file(&self, hive: &HiveName, reference: &ModelReference) -> bool {
        self.files.get(hive).is_some_and(|files| files.values().any(|found| found == reference))
    }

    /// Whether a hive is there: not lost.
    pub fn is_there(&self, hive: &HiveName) -> bool {
        self.hives.get(hive).is_some_and(|known| known.liveness.presence() != Presence::Lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::{
        bounds::Bounds,
        fixture::{hive, name},
        timers::Timers,
    };

    #[test]
    fn what_a_hive_has_written_is_no_sign_of_life_when_it_is_read_anew() {
        let (mut fleet, now) = (Fleet::new(Timers::default(), Bounds::default()), Instant::now());
        let after = |seconds| now + Duration::from_secs(seconds);
        let presence = |fleet: &Fleet| fleet.hives[&name::<HiveName>("a")].liveness.presence();
        fleet.hive_is_there(name("a"), hive(), now);
        fleet.pass(after(4));
        fleet.hive_is_there(name("a"), hive(), after(5));
        assert_eq!(presence(&fleet), Presence::Suspect);
        fleet.pass(after(10));
        assert_eq!(presence(&fleet), Presence::Lost);
        fleet.hive_is_there(name("a"), HiveRecord { epoch: 2, ..hive() }, after(11));
        assert_eq!(presence(&fleet), Presence::Online, "another run of it was not there before");
    }
}
