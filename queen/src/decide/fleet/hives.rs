//! Inputs about hives: registry entries, heartbeats, connections, and the model files that they have.

use std::time::Instant;

use rbee_schema::{FreeResources, HiveHeartbeat, HiveName, HiveRecord, ModelReference, QueenEvent};

use super::{Effect, Fleet, Hive, WorkerKey, clock::millis};
use crate::decide::liveness::{Liveness, Presence};

impl Fleet {
    /// A hive wrote its registry entry. Only the entry of another run is a sign of life: an entry outlives its hive for a
    /// while, and is delivered again whenever the registry is read again.
    pub fn hive_registered(&mut self, hive: HiveName, record: HiveRecord, now: Instant) -> Vec<Effect> {
        let is_another_run = self.hives.get(&hive).is_some_and(|before| before.record.epoch != record.epoch);
        if is_another_run {
            // The machine may have been repaired since.
            self.backoffs.forget_hive(&hive);
        }
        match self.hives.get_mut(&hive) {
            Some(known) => {
                if known.record != record || !known.has_key {
                    self.dirty.mark_everything();
                    known.record = record;
                    known.has_key = true;
                }
                if is_another_run { self.hive_is_alive(&hive, now) } else { Vec::new() }
            }
            None => {
                self.dirty.mark_everything();
                self.hives.insert(hive, Hive { record, liveness: Liveness::new(now), free: None, has_key: true });
                Vec::new()
            }
        }
    }

    /// A hive sent a heartbeat. One of another run is ignored.
    pub fn hive_heartbeat(&mut self, hive: &HiveName, beat: &HiveHeartbeat, now: Instant) -> Vec<Effect> {
        let Some(known) = self.hives.get_mut(hive).filter(|known| known.record.epoch == beat.epoch) else {
            return Vec::new();
        };
        let free = |room: Option<FreeResources>| room.map_or(0, |room| room.memory);
        if free(beat.free) > free(known.free) {
            self.dirty.mark_room();
        }
        known.free = beat.free.or(known.free);
        self.hive_is_alive(hive, now)
    }

    fn hive_is_alive(&mut self, hive: &HiveName, now: Instant) -> Vec<Effect> {
        let Some(known) = self.hives.get_mut(hive) else { return Vec::new() };
        let Some(silence) = known.liveness.heartbeat(now) else { return Vec::new() };
        let epoch = known.record.epoch;
        self.dirty.mark_everything();
        let returned = QueenEvent::HiveReturned { hive: hive.clone(), epoch, heartbeat_age_ms: millis(silence) };
        vec![Effect::Publish(returned), Effect::CountQueue]
    }

    /// The registry key of a hive is gone: the hive has stopped, or could not renew the key for a while. The hive is kept
    /// while it sends heartbeats. It is forgotten as soon as it would become suspect or its connection ends.
    pub fn hive_key_removed(&mut self, hive: &HiveName) {
        // A hive that is suspect or lost could not renew its key, and may return.
        let is_online = |known: &&mut Hive| known.liveness.presence() == Presence::Online;
        if let Some(known) = self.hives.get_mut(hive).filter(is_online) {
            known.has_key = false;
            self.dirty.mark_everything();
        }
    }

    /// The server reported the end of a hive's connection.
    pub fn hive_disconnected(&mut self, hive: &HiveName) -> Vec<Effect> {
        let Some(known) = self.hives.get_mut(hive) else { return Vec::new() };
        if !known.has_key {
            self.forget_hive(hive);
            return vec![Effect::CountQueue];
        }
        if known.liveness.disconnected().is_none() {
            return Vec::new();
        }
        self.dirty.mark_everything();
        let why = "its connection to the bus ended".to_owned();
        vec![Effect::Publish(QueenEvent::HiveSuspected { hive: hive.clone(), why })]
    }

    pub(super) fn forget_hive(&mut self, hive: &HiveName) {
        self.dirty.mark_everything();
        self.hives.remove(hive);
        self.backoffs.forget_hive(hive);
        let pending: Vec<WorkerKey> = self.table.pending_on_hive(hive).map(|(key, _)| key.clone()).collect();
        for key in pending {
            self.table.remove_pending(&key);
        }
    }

    /// A hive has fetched a model file.
    pub fn file_fetched(&mut self, hive: HiveName, key: String, reference: ModelReference) {
        self.files.entry(hive).or_default().insert(key, reference);
    }

    /// A hive has deleted a model file.
    pub fn file_removed(&mut self, hive: &HiveName, key: &str) {
        if let Some(files) = self.files.get_mut(hive) {
            files.remove(key);
        }
    }

    /// Sets the free resources of a hive.
    #[cfg(test)]
    pub(in crate::decide) fn set_free(&mut self, hive: &HiveName, free: FreeResources) {
        self.hives.get_mut(hive).expect("the hive is known").free = Some(free);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::decide::{
        fixture::{hive, key, name, spec},
        limits::QueenLimits,
        overlay::Overlay,
        place::place,
        timers::Timers,
    };

    fn empty() -> Fleet {
        Fleet::new(Timers::default(), QueenLimits::default())
    }

    fn presence(fleet: &Fleet) -> Presence {
        fleet.hives[&name::<HiveName>("a")].liveness.presence()
    }

    #[test]
    fn registry_entry_of_a_known_run_is_no_sign_of_life() {
        let (mut fleet, now) = (empty(), Instant::now());
        let after = |seconds| now + Duration::from_secs(seconds);
        fleet.hive_registered(name("a"), hive(), now);
        fleet.advance(after(4));
        fleet.hive_registered(name("a"), hive(), after(5));
        assert_eq!(presence(&fleet), Presence::Suspect);
        fleet.advance(after(10));
        assert_eq!(presence(&fleet), Presence::Lost);
        fleet.hive_registered(name("a"), HiveRecord { epoch: 2, ..hive() }, after(11));
        assert_eq!(presence(&fleet), Presence::Online, "the entry of another run is new");
    }

    #[test]
    fn hive_without_key_is_kept_only_while_it_sends_heartbeats() {
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        let a: HiveName = name("a");
        let without_key = || {
            let mut fleet = empty();
            fleet.hive_registered(name("a"), hive(), now);
            fleet.model_declared(name("m"), spec());
            fleet.spawn_commanded(key("a", "w"), name("m"), now);
            fleet.file_fetched(name("a"), "a.file".to_owned(), spec().reference);
            fleet.hive_key_removed(&a);
            fleet
        };
        let beat = HiveHeartbeat { epoch: 1, workers: 0, ports_leased: 0, ports_total: 1, late_ms: 0, free: None };
        let takes_workers = |fleet: &Fleet| place(&Overlay::new(fleet), &name("m"), &spec(), now).is_ok();

        let mut alive = without_key();
        assert!(!takes_workers(&alive), "the hive may be about to stop");
        for seconds in 1..60 {
            alive.hive_heartbeat(&a, &beat, after(seconds));
            assert_eq!(alive.advance(after(seconds)), []);
        }
        assert!(alive.is_present(&a) && alive.awaits(&key("a", "w")) && alive.has_file(&a, &spec().reference));
        alive.hive_registered(name("a"), hive(), after(60));
        assert!(takes_workers(&alive));

        // A hive that stops as it should is never reported as suspect.
        let mut unresponsive = without_key();
        assert_eq!(unresponsive.advance(after(2)), []);
        assert_eq!(unresponsive.advance(after(3)), [Effect::CountQueue]);
        let mut disconnected = without_key();
        assert_eq!(disconnected.hive_disconnected(&a), [Effect::CountQueue]);
        for mut fleet in [unresponsive, disconnected] {
            assert!(!fleet.hives.contains_key(&a) && !fleet.awaits(&key("a", "w")));
            fleet.hive_registered(name("a"), HiveRecord { epoch: 2, ..hive() }, after(60));
            assert!(fleet.has_file(&a, &spec().reference), "files are known as long as their bucket holds them");
        }
    }

    #[test]
    fn unresponsive_hive_whose_key_expires_may_return() {
        let (mut fleet, now) = (empty(), Instant::now());
        fleet.hive_registered(name("a"), hive(), now);
        fleet.advance(now + Duration::from_secs(4));
        fleet.hive_key_removed(&name("a"));
        fleet.advance(now + Duration::from_secs(30));
        assert_eq!(presence(&fleet), Presence::Lost);
    }
}
