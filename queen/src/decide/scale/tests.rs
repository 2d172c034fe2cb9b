use std::time::Duration;

use rbee_schema::{
    FailureCode, HiveRecord, JobInFlight, ModelReference, Replicas, WorkerBeat, WorkerName, WorkerRecord,
};

use super::*;
use crate::decide::fleet::Change;

fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a name")
}

fn spec() -> ModelSpec {
    ModelSpec::new(ModelReference::Mock(String::new()))
}

fn hive() -> HiveRecord {
    HiveRecord { epoch: 1, version: "0".into(), host: name("host"), first_port: 8080, last_port: 9999 }
}

fn record(phase: WorkerPhase) -> WorkerRecord {
    WorkerRecord { model: name("m"), phase, epoch: 1, pid: None, port: None, slots: 2, failure: None }
}

fn key(hive: &str, worker: &str) -> WorkerKey {
    (name(hive), name::<WorkerName>(worker))
}

fn beat(jobs: usize) -> WorkerBeat {
    let job = JobInFlight { tenant: name("t"), job: name("j"), ack: String::new() };
    WorkerBeat { model: name("m"), epoch: 1, slots: 2, jobs: vec![job; jobs], tokens: 0, memory_bytes: 0 }
}

/// A fleet of one hive `a` with model `m`.
fn fleet(replicas: Replicas) -> Fleet {
    let mut fleet = Fleet::default();
    fleet.hive_is_there(name("a"), hive());
    fleet.model_is(name("m"), ModelSpec { replicas, ..spec() });
    fleet
}

fn kinds(orders: &[Order]) -> Vec<&'static str> {
    let kind = |order: &Order| match order {
        Order::Spawn { .. } => "spawn",
        Order::Stop { .. } => "stop",
        Order::Refuse { .. } => "refuse",
        Order::Unplaceable { .. } => "unplaceable",
    };
    orders.iter().map(kind).collect()
}

const ONE: Replicas = Replicas { min: 0, max: 1 };

#[test]
fn a_model_without_demand_has_no_worker_and_one_with_demand_gets_one() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    assert_eq!(kinds(&orders(&fleet, now)), [""; 0]);
    fleet.job_waits(&name("m"), now);
    assert_eq!(kinds(&orders(&fleet, now)), ["spawn"]);
    fleet.ordered(key("a", "w"), name("m"), now);
    assert_eq!(kinds(&orders(&fleet, now)), [""; 0], "what was ordered is not ordered again");
    fleet.worker_is(key("a", "w"), record(WorkerPhase::Loading), now);
    assert_eq!(kinds(&orders(&fleet, now)), [""; 0]);
}

#[test]
fn an_order_of_which_nothing_is_heard_is_given_again() {
    let (mut fleet, now) = (fleet(Replicas { min: 1, max: 1 }), Instant::now());
    fleet.ordered(key("a", "w"), name("m"), now);
    fleet.forget_stale_orders(now + Duration::from_secs(29));
    assert_eq!(kinds(&orders(&fleet, now)), [""; 0]);
    fleet.forget_stale_orders(now + Duration::from_secs(30));
    assert_eq!(kinds(&orders(&fleet, now)), ["spawn"]);
}

#[test]
fn a_minimum_is_held_and_spread_over_the_hives() {
    let (mut fleet, now) = (fleet(Replicas { min: 3, max: 3 }), Instant::now());
    fleet.hive_is_there(name("b"), hive());
    let places: Vec<String> = orders(&fleet, now)
        .iter()
        .filter_map(|order| match order {
            Order::Spawn { hive, .. } => Some(hive.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(places, ["a", "b", "a"]);
}

#[test]
fn demand_without_a_hive_is_unplaceable_and_placed_when_one_comes() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    fleet.hive_is_gone(&name("a"));
    fleet.job_waits(&name("m"), now);
    assert_eq!(kinds(&orders(&fleet, now)), ["unplaceable"]);
    fleet.hive_is_there(name("b"), hive());
    assert_eq!(kinds(&orders(&fleet, now)), ["spawn"]);
}

#[test]
fn an_idle_worker_is_stopped_after_its_time_unless_the_minimum_needs_it() {
    let later = |now: Instant| now + Duration::from_secs(300);
    for (min, expected) in [(0, vec!["stop"]), (1, vec![])] {
        let (mut fleet, now) = (fleet(Replicas { min, max: 1 }), Instant::now());
        fleet.worker_is(key("a", "w"), record(WorkerPhase::Ready), now);
        assert_eq!(next_look(&fleet, now), Some(later(now)));
        assert_eq!(kinds(&orders(&fleet, now + Duration::from_secs(299))), [""; 0]);
        assert_eq!(kinds(&orders(&fleet, later(now))), expected);
    }
}

#[test]
fn a_busy_worker_is_not_idle_and_its_time_begins_when_its_last_job_ends() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    fleet.worker_is(key("a", "w"), record(WorkerPhase::Ready), now);
    let end = now + Duration::from_secs(1000);
    fleet.worker_beats(&key("a", "w"), beat(1), now);
    assert_eq!(kinds(&orders(&fleet, end)), [""; 0]);
    fleet.worker_beats(&key("a", "w"), beat(0), end);
    assert_eq!(kinds(&orders(&fleet, end + Duration::from_secs(299))), [""; 0]);
    assert_eq!(kinds(&orders(&fleet, end + Duration::from_secs(300))), ["stop"]);
}

#[test]
fn a_model_that_cannot_start_refuses_its_jobs_and_is_tried_again_when_somebody_asks() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    fleet.job_waits(&name("m"), now);
    let failure = Failure::new(FailureCode::ModelMissing, "no file");
    let failed = WorkerRecord { failure: Some(failure.clone()), ..record(WorkerPhase::Failed) };
    fleet.worker_is(key("a", "w"), failed, now);
    assert_eq!(orders(&fleet, now)[0], Order::Refuse { model: name("m"), failure });
    fleet.told_to_stop(&key("a", "w"));
    fleet.demand_is_over(&name("m"));
    assert_eq!(kinds(&orders(&fleet, now)), [""; 0]);
    fleet.job_waits(&name("m"), now);
    assert_eq!(kinds(&orders(&fleet, now)), ["spawn"]);
}

#[test]
fn a_failure_that_may_pass_keeps_its_jobs_and_is_tried_again_soon() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    fleet.job_waits(&name("m"), now);
    let failure = Failure::new(FailureCode::PortsExhausted, "none");
    let failed = WorkerRecord { failure: Some(failure), ..record(WorkerPhase::Failed) };
    fleet.worker_is(key("a", "w"), failed, now);
    fleet.told_to_stop(&key("a", "w"));
    assert_eq!(kinds(&orders(&fleet, now)), [""; 0]);
    let again = next_look(&fleet, now).expect("a time to look again");
    assert_eq!(kinds(&orders(&fleet, again)), ["spawn"]);
}

#[test]
fn a_worker_of_a_withdrawn_model_is_stopped_once() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    fleet.worker_is(key("a", "w"), record(WorkerPhase::Ready), now);
    fleet.model_is_gone(&name("m"));
    assert_eq!(kinds(&orders(&fleet, now)), ["stop"]);
    fleet.told_to_stop(&key("a", "w"));
    assert_eq!(kinds(&orders(&fleet, now)), [""; 0]);
}

#[test]
fn the_loss_of_a_worker_or_of_its_hive_is_a_reason_to_look_for_waiting_jobs() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    let phases = [
        (WorkerPhase::Loading, Change::Same),
        (WorkerPhase::Ready, Change::Same),
        (WorkerPhase::Backoff, Change::Same),
        (WorkerPhase::Draining, Change::Fewer),
        (WorkerPhase::Stopping, Change::Same),
    ];
    for (phase, change) in phases {
        assert_eq!(fleet.worker_is(key("a", "w"), record(phase), now), change, "{phase:?}");
    }
    assert_eq!(fleet.worker_is_gone(&key("a", "w")), Change::Fewer);
    assert_eq!(fleet.hive_is_gone(&name("a")), Change::Fewer);
    assert_eq!(fleet.hive_is_gone(&name("a")), Change::Same);
}

#[test]
fn workers_of_an_absent_hive_do_not_count() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    fleet.worker_is(key("a", "w"), record(WorkerPhase::Ready), now);
    fleet.hive_is_gone(&name("a"));
    assert_eq!(fleet.capacity(&name("m")), 0);
}
