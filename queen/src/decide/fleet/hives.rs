//! Hives that come, beat, fall silent, and return; and the model files that they have.

use std::time::{Duration, Instant};

use rbee_schema::{FreeResources, HiveHeartbeat, HiveName, HiveRecord, ModelReference, QueenEvent};

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
                if known.record != record || !known.has_key {
                    self.touched.everything();
                    known.record = record;
                    known.has_key = true;
                }
                if is_another_run { self.hear_hive(&hive, now) } else { Change::Same }
            }
            None => {
                self.touched.everything();
                self.hives.insert(hive, Hive { record, liveness: Liveness::new(now), free: None, has_key: true });
                Change::Same
            }
        }
    }

    /// A hive beats.
    pub fn hive_beats(&mut self, hive: &HiveName, beat: &HiveHeartbeat, now: Instant) -> Change {
        let Some(known) = self.hives.get_mut(hive).filter(|known| known.record.epoch == beat.epoch) else {
            return Change::Same;
        };
        let free = |room: Option<FreeResources>| room.map_or(0, |room| room.memory);
        if free(beat.free) > free(known.free) {
            self.touched.room();
        }
        known.free = beat.free.or(known.free);
        self.hear_hive(hive, now)
    }

    pub(super) fn hear_hive(&mut self, hive: &HiveName, now: Instant) -> Change {
        let Some(known) = self.hives.get_mut(hive) else { return Change::Same };
        let Some(silence) = known.liveness.hear(now) else { return Change::Same };
        let epoch = known.record.epoch;
        self.touched.everything();
        self.news.push(QueenEvent::HiveReturned { hive: hive.clone(), epoch, heartbeat_age_ms: millis(silence) });
        Change::Fewer
    }

    /// The key of a hive is gone: it has ended in good order, or could not renew it for a while. Who is heard all the same is
    /// there; else it is forgotten as soon as it would be suspect, or its connection ends.
    pub fn hive_has_no_key(&mut self, hive: &HiveName) {
        // One that is silent already was not renewed, and may return.
        let is_heard = |known: &&mut Hive| known.liveness.presence() == Presence::Online;
        if let Some(known) = self.hives.get_mut(hive).filter(is_heard) {
            known.has_key = false;
            self.touched.everything();
        }
    }

    /// The server says that the connection of a hive is gone.
    pub fn hive_is_disconnected(&mut self, hive: &HiveName) -> Change {
        let Some(known) = self.hives.get_mut(hive) else { return Change::Same };
        if !known.has_key {
            self.forget_hive(hive);
            return Change::Fewer;
        }
        if known.liveness.disconnected().is_some() {
            self.touched.everything();
            let why = "its connection to the bus is gone".to_owned();
            self.news.push(QueenEvent::HiveSuspected { hive: hive.clone(), why });
        }
        Change::Same
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
        let turns: Vec<(HiveName, Turn, Duration, bool)> = self
            .hives
            .iter_mut()
            .filter_map(|(name, hive)| {
                let turn = hive.liveness.pass(now, &self.timers)?;
                Some((name.clone(), turn, hive.liveness.silence(now), hive.has_key))
            })
            .collect();
        for (hive, turn, silence, has_key) in turns {
            self.touched.everything();
            match turn {
                Turn::Suspected if !has_key => {
                    change = Change::Fewer;
                    self.forget_hive(&hive);
                }
                Turn::Suspected => {
                    let why = format!("no heartbeat for {silence:.1?}");
                    self.news.push(QueenEvent::HiveSuspected { hive, why });
                }
                Turn::Lost => {
                    change = Change::Fewer;
                    let workers = number(self.workers_of(&hive).count());
                    self.news.push(QueenEvent::HiveLost {
                        hive: hive.clone(),
                        workers,
                        heartbeat_age_ms: millis(silence),
                    });
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
        fixture::{hive, key, name, spec},
        place::place,
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

    #[test]
    fn a_hive_whose_key_is_gone_is_kept_while_it_is_heard_and_forgotten_when_it_is_silent_or_leaves() {
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        let a: HiveName = name("a");
        let without_key = || {
            let mut fleet = Fleet::new(Timers::default(), Bounds::default());
            fleet.hive_is_there(name("a"), hive(), now);
            fleet.model_is(name("m"), spec());
            fleet.ordered(key("a", "w"), name("m"), now);
            fleet.file_is(name("a"), "a.file".to_owned(), spec().reference);
            fleet.hive_has_no_key(&a);
            fleet
        };
        let says = HiveHeartbeat { epoch: 1, workers: 0, ports_leased: 0, ports_total: 1, late_ms: 0, free: None };
        let takes_workers = |fleet: &Fleet| place(fleet, &name("m"), &spec(), now).is_ok();

        let mut heard = without_key();
        assert!(!takes_workers(&heard), "it may be about to end");
        for seconds in 1..60 {
            heard.hive_beats(&a, &says, after(seconds));
            heard.pass(after(seconds));
        }
        assert!(heard.is_there(&a) && heard.awaits(&key("a", "w")) && heard.has_file(&a, &spec().reference));
        heard.hive_is_there(name("a"), hive(), after(60));
        assert!(takes_workers(&heard));

        let mut silent = without_key();
        assert_eq!(silent.pass(after(2)).0, Change::Same);
        assert_eq!(silent.pass(after(3)).0, Change::Fewer);
        assert!(!silent.hives.contains_key(&a) && !silent.awaits(&key("a", "w")));
        let mut left = without_key();
        assert_eq!(left.hive_is_disconnected(&a), Change::Fewer);
        assert!(!left.hives.contains_key(&a));
        for mut fleet in [silent, left] {
            assert_eq!(fleet.news(), [], "who ends in good order was never suspect");
            fleet.hive_is_there(name("a"), HiveRecord { epoch: 2, ..hive() }, after(60));
            assert!(fleet.has_file(&a, &spec().reference), "what the bucket of files says holds as long as it says so");
        }
    }

    #[test]
    fn a_silent_hive_whose_key_lapses_may_return() {
        let (mut fleet, now) = (Fleet::new(Timers::default(), Bounds::default()), Instant::now());
        fleet.hive_is_there(name("a"), hive(), now);
        fleet.pass(now + Duration::from_secs(4));
        fleet.hive_has_no_key(&name("a"));
        fleet.pass(now + Duration::from_secs(30));
        assert_eq!(fleet.hives[&name::<HiveName>("a")].liveness.presence(), Presence::Lost);
    }
}
