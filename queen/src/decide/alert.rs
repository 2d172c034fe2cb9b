//! What an operator should look at: it is raised when it begins to hold, and cleared when it holds no longer.

use std::collections::{BTreeMap, BTreeSet};

use rbee_schema::{AlertEvent, AlertKind, Failure, ModelName, WorkerPhase};

use crate::decide::{fleet::Fleet, liveness::Presence, touched::Scope};

/// The alerts that hold.
#[derive(Debug, Clone, Default)]
pub struct Alerts {
    told: BTreeSet<Key>,
}

/// An alert by what it is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    kind: AlertKind,
    about: String,
    /// Where it follows from what is known of a model.
    model: Option<ModelName>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Alert {
    message: String,
    remedy: String,
}

impl Alerts {
    /// Another queen has told until now: everything that holds is told again.
    pub fn forget(&mut self) {
        self.told.clear();
    }

    /// How many of a kind hold.
    pub fn count(&self, kind: AlertKind) -> usize {
        self.told.iter().filter(|key| key.kind == kind).count()
    }

    /// What is to be told after a look at `scope`. `unplaceable` are the models that have no place, all of them.
    pub fn look(
        &mut self,
        fleet: &Fleet,
        scope: &Scope,
        unplaceable: &BTreeMap<ModelName, Failure>,
    ) -> Vec<(AlertKind, AlertEvent)> {
        let holds = standing(fleet, scope, unplaceable);
        let is_seen = |key: &Key| match (&key.model, scope) {
            (_, Scope::Everything) => true,
            (Some(model), Scope::Models(_)) => scope.has(model),
            (None, Scope::Models(_)) => false,
        };
        let over: Vec<Key> =
            self.told.iter().filter(|key| is_seen(key) && !holds.contains_key(*key)).cloned().collect();
        let mut news = Vec::new();
        for key in over {
            self.told.remove(&key);
            news.push((key.kind, AlertEvent::Cleared { about: key.about }));
        }
        for (key, Alert { message, remedy }) in holds {
            if self.told.insert(key.clone()) {
                news.push((key.kind, AlertEvent::Raised { about: key.about, message, remedy }));
            }
        }
        news
    }
}

/// What holds now, as far as `scope` goes.
fn standing(fleet: &Fleet, scope: &Scope, unplaceable: &BTreeMap<ModelName, Failure>) -> BTreeMap<Key, Alert> {
    let mut holds = BTreeMap::new();
    if *scope == Scope::Everything {
        holds.extend(of_hives(fleet));
    }
    let models: Vec<&ModelName> = match scope {
        Scope::Everything => fleet.models_with_workers().collect(),
        Scope::Models(models) => models.iter().collect(),
    };
    for model in models {
        holds.extend(of_workers(fleet, model));
    }
    for (model, failure) in unplaceable.iter().filter(|(model, _)| scope.has(model)) {
        let key = Key { kind: AlertKind::Unplaceable, about: model.to_string(), model: Some(model.clone()) };
        let remedy = format!("`rbee explain {model}` says what each hive lacks");
        holds.insert(key, Alert { message: failure.to_string(), remedy });
    }
    holds
}

fn of_hives(fleet: &Fleet) -> impl Iterator<Item = (Key, Alert)> {
    fleet.hives.iter().flat_map(|(name, hive)| {
        let key = |kind| Key { kind, about: name.to_string(), model: None };
        let lost = (hive.liveness.presence() == Presence::Lost).then(|| {
            let message = format!("nothing is heard of hive {name} on {}", hive.record.host);
            let remedy = "look whether its machine runs and reaches the bus; others replace its workers meanwhile";
            (key(AlertKind::HiveLost), Alert { message, remedy: remedy.to_owned() })
        });
        let degraded = hive.record.degraded.as_ref().map(|why| {
            let message = format!("hive {name} is degraded: {why}");
            let remedy = format!("`rbee events evt.worker.{name}.> --since 1h` tells how its workers ended");
            (key(AlertKind::HiveDegraded), Alert { message, remedy })
        });
        let low = fleet.bounds.low_disk;
        let disk = hive.free.filter(|free| free.disk < low.bytes()).map(|_| {
            // Without the number: it changes with each heartbeat.
            let message = format!("hive {name} has less than {low} free on its disk");
            let remedy = "`rbee models --files` lists fetched models, `rbee rm` deletes one";
            (key(AlertKind::DiskLow), Alert { message, remedy: remedy.to_owned() })
        });
        [lost, degraded, disk].into_iter().flatten()
    })
}

fn of_workers(fleet: &Fleet, model: &ModelName) -> Vec<(Key, Alert)> {
    let looping = fleet.workers_for(model).filter(|(_, worker)| worker.record.phase == WorkerPhase::CrashLoop);
    let alert = |((hive, name), failure): ((&_, &_), Option<&Failure>)| {
        let key = Key { kind: AlertKind::CrashLoop, about: format!("{hive}/{name}"), model: Some(model.clone()) };
        let why = failure.map_or_else(|| "nobody knows why".to_owned(), ToString::to_string);
        let message = format!("worker {name} of {model} on {hive} ends again and again: {why}");
        let remedy = format!("mend that, then `rbee reset {name}` tries it again at once");
        (key, Alert { message, remedy })
    };
    looping.map(|((hive, name), worker)| alert(((hive, name), worker.record.failure.as_ref()))).collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use rbee_schema::{ByteSize, FailureCode, FreeResources, Replicas};

    use super::*;
    use crate::decide::{
        fixture::{degraded, fleet, hive, key, looping, name, record},
        timers::Timers,
    };

    const ONE: Replicas = Replicas { min: 0, max: 1 };

    fn told(alerts: &mut Alerts, fleet: &Fleet, scope: &Scope) -> Vec<String> {
        let word = |(kind, event): &(AlertKind, AlertEvent)| match event {
            AlertEvent::Raised { about, .. } => format!("{kind} {about}"),
            AlertEvent::Cleared { about } => format!("no {kind} {about}"),
        };
        alerts.look(fleet, scope, &BTreeMap::new()).iter().map(word).collect()
    }

    #[test]
    fn what_holds_is_raised_once_and_cleared_when_it_is_over() {
        let (mut fleet, mut alerts, now) = (fleet(ONE), Alerts::default(), Instant::now());
        let everything = Scope::Everything;
        assert_eq!(told(&mut alerts, &fleet, &everything), [""; 0]);
        fleet.hive_is_there(name("b"), degraded(), now);
        fleet.worker_is(key("a", "w"), looping(), now);
        assert_eq!(told(&mut alerts, &fleet, &everything), ["hive-degraded b", "crash-loop a/w"]);
        assert_eq!((alerts.count(AlertKind::CrashLoop), alerts.count(AlertKind::HiveLost)), (1, 0));
        assert_eq!(told(&mut alerts, &fleet, &everything), [""; 0]);
        fleet.hive_is_there(name("b"), hive(), now);
        fleet.worker_is(key("a", "w"), record(WorkerPhase::Ready), now);
        assert_eq!(told(&mut alerts, &fleet, &everything), ["no hive-degraded b", "no crash-loop a/w"]);
    }

    #[test]
    fn when_a_disk_is_low_can_be_set() {
        let (mut fleet, mut alerts) = (fleet(ONE), Alerts::default());
        fleet.hives.get_mut(&name("a")).expect("it is there").free =
            Some(FreeResources { memory: 0, disk: 5 << 30, gpu_memory: None });
        assert_eq!(told(&mut alerts, &fleet, &Scope::Everything), [""; 0]);
        fleet.bounds.low_disk = ByteSize(6 << 30);
        assert_eq!(told(&mut alerts, &fleet, &Scope::Everything), ["disk-low a"]);
    }

    #[test]
    fn a_look_at_some_models_tells_nothing_of_others_and_clears_nothing_of_them() {
        let (mut fleet, mut alerts, now) = (fleet(ONE), Alerts::default(), Instant::now());
        let models = |names: &[&str]| Scope::Models(names.iter().map(|model| name(model)).collect());
        fleet.worker_is(key("a", "w"), looping(), now);
        fleet.hive_is_there(name("b"), degraded(), now);
        assert_eq!(told(&mut alerts, &fleet, &models(&["other"])), [""; 0]);
        assert_eq!(told(&mut alerts, &fleet, &models(&["m"])), ["crash-loop a/w"]);
        assert_eq!(told(&mut alerts, &fleet, &Scope::Everything), ["hive-degraded b"]);
        assert_eq!(told(&mut alerts, &fleet, &models(&["other"])), [""; 0]);
        fleet.worker_is_gone(&key("a", "w"));
        assert_eq!(told(&mut alerts, &fleet, &models(&["m"])), ["no crash-loop a/w"]);
    }

    #[test]
    fn lost_hives_full_disks_and_models_without_a_place_are_told_and_told_again_by_the_next_queen() {
        let (mut fleet, mut alerts, now) = (fleet(ONE), Alerts::default(), Instant::now());
        fleet.timers = Timers { suspect: Duration::from_secs(3), ..Timers::default() };
        fleet.hives.get_mut(&name("a")).expect("it is there").free =
            Some(FreeResources { memory: 1 << 40, disk: fleet.bounds.low_disk.bytes() - 1, gpu_memory: None });
        for seconds in [4, 11] {
            fleet.pass(now + Duration::from_secs(seconds));
        }
        let unplaceable = [(name("m"), Failure::new(FailureCode::NoCapacity, "no room"))].into();
        let look = |alerts: &mut Alerts| {
            let news = alerts.look(&fleet, &Scope::Everything, &unplaceable);
            news.into_iter().map(|(kind, _)| kind).collect::<Vec<_>>()
        };
        let all = [AlertKind::HiveLost, AlertKind::DiskLow, AlertKind::Unplaceable];
        assert_eq!(look(&mut alerts), all);
        assert_eq!(look(&mut alerts), []);
        alerts.forget();
        assert_eq!(look(&mut alerts), all);
    }
}
