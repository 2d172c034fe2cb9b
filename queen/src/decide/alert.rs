//! Alerts: conditions that need an operator. An alert is raised when its condition begins to hold and cleared when it ends.

use std::collections::{BTreeMap, BTreeSet};

use rbee_schema::{AlertEvent, AlertKind, Failure, ModelName, WorkerPhase};

use crate::decide::{dirty::Scope, fleet::Fleet, liveness::Presence};

/// Alerts that are raised.
#[derive(Debug, Clone, Default)]
pub struct Alerts {
    raised: BTreeSet<Key>,
}

/// Identity of an alert.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    kind: AlertKind,
    /// Hive, worker or model of the alert.
    about: String,
    /// Model whose state the alert depends on; `None` for alerts about hives.
    model: Option<ModelName>,
}

/// Text of an alert, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Text {
    message: String,
    remedy: String,
}

impl Alerts {
    /// Forgets the raised alerts, at the start of a new term: the new leader raises every alert that holds again.
    pub fn clear(&mut self) {
        self.raised.clear();
    }

    /// Number of raised alerts of a kind.
    pub fn count(&self, kind: AlertKind) -> usize {
        self.raised.iter().filter(|key| key.kind == kind).count()
    }

    /// Compares the raised alerts with the state of the fleet, as far as `scope` goes, and returns the events to publish.
    /// `unplaceable` holds all models that no hive can run.
    pub fn update(
        &mut self,
        fleet: &Fleet,
        scope: &Scope,
        unplaceable: &BTreeMap<ModelName, Failure>,
    ) -> Vec<(AlertKind, AlertEvent)> {
        let current = current(fleet, scope, unplaceable);
        let is_in_scope = |key: &Key| match (&key.model, scope) {
            (_, Scope::Everything) => true,
            (Some(model), Scope::Models(_)) => scope.has(model),
            (None, Scope::Models(_)) => false,
        };
        let over: Vec<Key> =
            self.raised.iter().filter(|key| is_in_scope(key) && !current.contains_key(*key)).cloned().collect();
        let mut events = Vec::new();
        for key in over {
            self.raised.remove(&key);
            events.push((key.kind, AlertEvent::Cleared { about: key.about }));
        }
        for (key, Text { message, remedy }) in current {
            if self.raised.insert(key.clone()) {
                events.push((key.kind, AlertEvent::Raised { about: key.about, message, remedy }));
            }
        }
        events
    }
}

/// Alerts whose condition holds now, as far as `scope` goes.
fn current(fleet: &Fleet, scope: &Scope, unplaceable: &BTreeMap<ModelName, Failure>) -> BTreeMap<Key, Text> {
    let mut alerts = BTreeMap::new();
    if *scope == Scope::Everything {
        alerts.extend(of_hives(fleet));
    }
    let models: Vec<&ModelName> = match scope {
        Scope::Everything => fleet.models_with_workers().collect(),
        Scope::Models(models) => models.iter().collect(),
    };
    for model in models {
        alerts.extend(of_workers(fleet, model));
    }
    for (model, failure) in unplaceable.iter().filter(|(model, _)| scope.has(model)) {
        let key = Key { kind: AlertKind::Unplaceable, about: model.to_string(), model: Some(model.clone()) };
        let remedy = format!("run `rbee explain {model}` to see what each hive lacks");
        alerts.insert(key, Text { message: failure.to_string(), remedy });
    }
    alerts
}

fn of_hives(fleet: &Fleet) -> impl Iterator<Item = (Key, Text)> {
    fleet.hives().iter().flat_map(|(name, hive)| {
        let key = |kind| Key { kind, about: name.to_string(), model: None };
        let lost = (hive.liveness.presence() == Presence::Lost).then(|| {
            let host = &hive.record.host;
            let message = format!("hive {name} on {host} sends no heartbeats; other hives replace its workers");
            let remedy = "check that its machine runs, that the hive runs there, and that it reaches the NATS servers";
            (key(AlertKind::HiveLost), Text { message, remedy: remedy.to_owned() })
        });
        let degraded = hive.record.degraded.as_ref().map(|why| {
            let message = format!("hive {name} is degraded: {why}");
            let remedy = format!("run `rbee events evt.worker.{name}.> --since 1h` to see how its workers ended");
            (key(AlertKind::HiveDegraded), Text { message, remedy })
        });
        let low = fleet.limits().low_disk;
        let disk = hive.free.filter(|free| free.disk < low.bytes()).map(|_| {
            // Without the free space: it changes with each heartbeat, and the text would change with it.
            let message = format!("hive {name} has less than {low} of free disk space");
            let remedy = "list the model files with `rbee models --files` and delete unused ones with `rbee rm`";
            (key(AlertKind::DiskLow), Text { message, remedy: remedy.to_owned() })
        });
        [lost, degraded, disk].into_iter().flatten()
    })
}

fn of_workers(fleet: &Fleet, model: &ModelName) -> impl Iterator<Item = (Key, Text)> {
    let looping = fleet.workers_for(model).filter(|(_, worker)| worker.record.phase == WorkerPhase::CrashLoop);
    looping.map(move |((hive, name), worker)| {
        let key = Key { kind: AlertKind::CrashLoop, about: format!("{hive}/{name}"), model: Some(model.clone()) };
        let why = worker.record.failure.as_ref().map_or_else(|| "no reason is known".to_owned(), ToString::to_string);
        let message = format!("worker {name} of {model} on {hive} is in a crash loop: {why}");
        let remedy = format!("fix the cause, then run `rbee reset {name}` to start it again at once");
        (key, Text { message, remedy })
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use rbee_schema::{ByteSize, FailureCode, FreeResources, Replicas};

    use super::*;
    use crate::decide::{
        fixture::{degraded, fleet, fleet_with, hive, key, looping, name, record},
        limits::QueenLimits,
        timers::Timers,
    };

    const ONE: Replicas = Replicas { min: 0, max: 1 };

    fn update(alerts: &mut Alerts, fleet: &Fleet, scope: &Scope) -> Vec<String> {
        let text = |(kind, event): &(AlertKind, AlertEvent)| match event {
            AlertEvent::Raised { about, .. } => format!("{kind} {about}"),
            AlertEvent::Cleared { about } => format!("no {kind} {about}"),
        };
        alerts.update(fleet, scope, &BTreeMap::new()).iter().map(text).collect()
    }

    #[test]
    fn alert_is_raised_once_and_cleared_when_its_condition_ends() {
        let (mut fleet, mut alerts, now) = (fleet(ONE), Alerts::default(), Instant::now());
        let everything = Scope::Everything;
        assert_eq!(update(&mut alerts, &fleet, &everything), [""; 0]);
        fleet.hive_registered(name("b"), degraded(), now);
        fleet.worker_updated(key("a", "w"), looping(), now);
        assert_eq!(update(&mut alerts, &fleet, &everything), ["hive-degraded b", "crash-loop a/w"]);
        assert_eq!((alerts.count(AlertKind::CrashLoop), alerts.count(AlertKind::HiveLost)), (1, 0));
        assert_eq!(update(&mut alerts, &fleet, &everything), [""; 0]);
        fleet.hive_registered(name("b"), hive(), now);
        fleet.worker_updated(key("a", "w"), record(WorkerPhase::Ready), now);
        assert_eq!(update(&mut alerts, &fleet, &everything), ["no hive-degraded b", "no crash-loop a/w"]);
    }

    #[test]
    fn limit_of_low_disk_can_be_set() {
        for (limit, expected) in [(5 << 30, vec![]), (6 << 30, vec!["disk-low a"])] {
            let limits = QueenLimits { low_disk: ByteSize(limit), ..QueenLimits::default() };
            let mut fleet = fleet_with(ONE, Timers::default(), limits);
            fleet.set_free(&name("a"), FreeResources { memory: 0, disk: 5 << 30, gpu_memory: None });
            assert_eq!(update(&mut Alerts::default(), &fleet, &Scope::Everything), expected, "{limit}");
        }
    }

    #[test]
    fn pass_over_some_models_leaves_the_alerts_of_others() {
        let (mut fleet, mut alerts, now) = (fleet(ONE), Alerts::default(), Instant::now());
        let models = |names: &[&str]| Scope::Models(names.iter().map(|model| name(model)).collect());
        fleet.worker_updated(key("a", "w"), looping(), now);
        fleet.hive_registered(name("b"), degraded(), now);
        assert_eq!(update(&mut alerts, &fleet, &models(&["other"])), [""; 0]);
        assert_eq!(update(&mut alerts, &fleet, &models(&["m"])), ["crash-loop a/w"]);
        assert_eq!(update(&mut alerts, &fleet, &Scope::Everything), ["hive-degraded b"]);
        assert_eq!(update(&mut alerts, &fleet, &models(&["other"])), [""; 0]);
        fleet.worker_removed(&key("a", "w"));
        assert_eq!(update(&mut alerts, &fleet, &models(&["m"])), ["no crash-loop a/w"]);
    }

    #[test]
    fn next_leader_raises_all_alerts_again() {
        let (mut alerts, now) = (Alerts::default(), Instant::now());
        let mut fleet = fleet_with(ONE, Timers::default(), QueenLimits::default());
        let disk = QueenLimits::default().low_disk.bytes() - 1;
        fleet.set_free(&name("a"), FreeResources { memory: 1 << 40, disk, gpu_memory: None });
        for seconds in [4, 11] {
            fleet.advance(now + Duration::from_secs(seconds));
        }
        let unplaceable = [(name("m"), Failure::new(FailureCode::NoCapacity, "no room"))].into();
        let raised = |alerts: &mut Alerts| {
            let events = alerts.update(&fleet, &Scope::Everything, &unplaceable);
            events.into_iter().map(|(kind, _)| kind).collect::<Vec<_>>()
        };
        let all = [AlertKind::HiveLost, AlertKind::DiskLow, AlertKind::Unplaceable];
        assert_eq!(raised(&mut alerts), all);
        assert_eq!(raised(&mut alerts), []);
        alerts.clear();
        assert_eq!(raised(&mut alerts), all);
    }
}
