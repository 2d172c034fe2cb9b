//! The fleet as it will be when a plan is carried out: the fleet with the spawns and stops of the plan on top. The fleet
//! itself is borrowed and not changed, so that planning copies nothing.

use std::collections::BTreeMap;

use rbee_schema::{HiveName, ModelName};

use crate::decide::fleet::{Fleet, Worker, WorkerKey};

/// A fleet with planned spawns and stops on top.
#[derive(Debug, Clone)]
pub struct Overlay<'a> {
    fleet: &'a Fleet,
    hives: BTreeMap<&'a HiveName, Planned<'a>>,
    /// Number of planned spawns of each model.
    spawns: BTreeMap<&'a ModelName, usize>,
}

/// Changes planned on one hive.
#[derive(Debug, Clone, Default)]
struct Planned<'a> {
    spawns: Vec<&'a ModelName>,
    stops: Vec<(&'a WorkerKey, &'a Worker)>,
}

impl<'a> Overlay<'a> {
    /// The fleet with nothing planned.
    pub fn new(fleet: &'a Fleet) -> Self {
        Self { fleet, hives: BTreeMap::new(), spawns: BTreeMap::new() }
    }

    /// The fleet below.
    pub fn fleet(&self) -> &'a Fleet {
        self.fleet
    }

    /// Adds a spawn.
    pub fn add_spawn(&mut self, hive: &'a HiveName, model: &'a ModelName) {
        self.hives.entry(hive).or_default().spawns.push(model);
        *self.spawns.entry(model).or_default() += 1;
    }

    /// Adds a stop.
    pub fn add_stop(&mut self, key: &'a WorkerKey) {
        if let Some(worker) = self.fleet.worker(key) {
            self.hives.entry(&key.0).or_default().stops.push((key, worker));
        }
    }

    /// True if a stop of the worker was commanded or is planned.
    pub fn is_stopping(&self, key: &WorkerKey, worker: &Worker) -> bool {
        worker.stop_commanded.is_some() || self.stops(&key.0).iter().any(|(stopped, _)| *stopped == key)
    }

    /// Workers that serve a model or will soon.
    pub fn serving(&self, model: &ModelName) -> impl Iterator<Item = (&'a WorkerKey, &'a Worker)> {
        self.fleet.serving(model).filter(|(key, worker)| !self.is_stopping(key, worker))
    }

    /// Number of workers that serve a model, will soon, were commanded or are planned.
    pub fn capacity(&self, model: &ModelName) -> u32 {
        let spawns = self.fleet.pending_spawns_of(model) + self.spawns.get(model).copied().unwrap_or(0);
        u32::try_from(self.serving(model).count() + spawns).unwrap_or(u32::MAX)
    }

    /// Number of workers with a process on a hive, and of commanded and planned spawns there.
    pub fn load(&self, hive: &HiveName) -> usize {
        self.fleet.load(hive) + self.spawns(hive).len()
    }

    /// Number of workers of a model on a hive that run and will not stop, and of commanded and planned spawns there.
    pub fn load_of(&self, hive: &HiveName, model: &ModelName) -> usize {
        let spawns = self.spawns(hive).iter().filter(|planned| **planned == model);
        let is_counted =
            |worker: &Worker| worker.record.model == *model && worker.has_process() && worker.stop_commanded.is_none();
        let stops = self.stops(hive).iter().filter(|(_, worker)| is_counted(worker));
        (self.fleet.load_of(hive, model) + spawns.count()).saturating_sub(stops.count())
    }

    /// Memory in bytes of the workers that were commanded or are planned on a hive and that it has not reported yet.
    pub fn promised_memory(&self, hive: &HiveName) -> u64 {
        let pending = self.fleet.pending_spawns_on(hive).map(|(_, spawn)| &spawn.model);
        let models = pending.chain(self.spawns(hive).iter().copied());
        models.filter_map(|model| self.fleet.memory_of(model)).sum()
    }

    fn spawns(&self, hive: &HiveName) -> &[&'a ModelName] {
        self.hives.get(hive).map_or(&[], |planned| &planned.spawns)
    }

    fn stops(&self, hive: &HiveName) -> &[(&'a WorkerKey, &'a Worker)] {
        self.hives.get(hive).map_or(&[], |planned| &planned.stops)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use rbee_schema::{ByteSize, Limits, ModelSpec, Replicas, WorkerPhase};

    use super::*;
    use crate::decide::fixture::{fleet, key, name, record, spec};

    #[test]
    fn overlay_counts_like_a_fleet_that_carried_out_the_plan() {
        let (mut fleet, now) = (fleet(Replicas { min: 0, max: 5 }), Instant::now());
        let limits = Limits { memory: Some(ByteSize(1 << 30)), ..Limits::default() };
        fleet.model_declared(name("m"), ModelSpec { limits, ..spec() });
        fleet.worker_updated(key("a", "ready"), record(WorkerPhase::Ready), now);
        fleet.worker_updated(key("a", "backoff"), record(WorkerPhase::Backoff), now);
        fleet.spawn_commanded(key("a", "commanded"), name("m"), now);
        let (hive, model): (HiveName, ModelName) = (name("a"), name("m"));
        let counts = |overlay: &Overlay<'_>| {
            let loads = (overlay.load(&hive), overlay.load_of(&hive, &model));
            (overlay.capacity(&model), loads, overlay.promised_memory(&hive) >> 30)
        };
        assert_eq!(counts(&Overlay::new(&fleet)), (3, (2, 2), 1));

        let stops = [key("a", "ready"), key("a", "backoff")];
        let mut overlay = Overlay::new(&fleet);
        overlay.add_spawn(&hive, &model);
        stops.iter().for_each(|key| overlay.add_stop(key));
        let planned = counts(&overlay);
        assert_eq!(planned, (2, (3, 2), 2));

        let mut carried_out = fleet.clone();
        carried_out.spawn_commanded(key("a", "planned"), name("m"), now);
        stops.iter().for_each(|key| carried_out.stop_commanded(key, now));
        assert_eq!(counts(&Overlay::new(&carried_out)), planned);
    }
}
