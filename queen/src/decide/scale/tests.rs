use std::time::Duration;

use rbee_schema::{FailureCode, Replicas, WorkerRecord};

use super::*;
use crate::decide::{
    fixture::{beat, draining, fails, fleet, hive, key, leaves, looping, name, next_look, orders, record, spec},
    fleet::Change,
};

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
fn what_was_commanded_is_awaited_until_it_happens_or_is_given_up() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    let worker = key("a", "w");
    fleet.ordered(worker.clone(), name("m"), now);
    assert!(fleet.awaits(&worker));
    fleet.worker_is(worker.clone(), record(WorkerPhase::Ready), now);
    assert!(!fleet.awaits(&worker));
    fleet.told_to_stop(&worker, now);
    assert!(fleet.awaits(&worker));
    fleet.forget_stale_orders(now + Duration::from_secs(30));
    assert!(!fleet.awaits(&worker));
}

#[test]
fn who_is_to_stop_is_told_again_by_a_queen_who_leads_anew() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    fleet.worker_is(key("a", "w"), record(WorkerPhase::Ready), now);
    fleet.model_is_gone(&name("m"));
    fleet.told_to_stop(&key("a", "w"), now);
    assert_eq!(kinds(&orders(&fleet, now)), [""; 0]);
    fleet.forget_stops();
    assert_eq!(kinds(&orders(&fleet, now)), ["stop"]);
}

#[test]
fn a_minimum_is_held_and_spread_over_the_hives() {
    let (mut fleet, now) = (fleet(Replicas { min: 3, max: 3 }), Instant::now());
    fleet.hive_is_there(name("b"), hive(), now);
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
    leaves(&mut fleet, "a");
    fleet.job_waits(&name("m"), now);
    assert_eq!(kinds(&orders(&fleet, now)), ["unplaceable"]);
    fleet.hive_is_there(name("b"), hive(), now);
    assert_eq!(kinds(&orders(&fleet, now)), ["spawn"]);
}

#[test]
fn an_idle_worker_is_stopped_after_its_time_unless_the_minimum_needs_it() {
    let later = |now: Instant| now + Duration::from_secs(300);
    for (min, looks, expected) in [(0, true, vec!["stop"]), (1, false, vec![])] {
        let (mut fleet, now) = (fleet(Replicas { min, max: 1 }), Instant::now());
        fleet.worker_is(key("a", "w"), record(WorkerPhase::Ready), now);
        let idle = looks.then(|| later(now));
        assert_eq!(next_look(&fleet, now), idle.or_else(|| fleet.next_change().min()));
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
    fleet.told_to_stop(&key("a", "w"), now);
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
    fleet.worker_is_gone(&key("a", "w"));
    assert_eq!(kinds(&orders(&fleet, now)), ["unplaceable"]);
    let mut again = now;
    while kinds(&orders(&fleet, again)) == ["unplaceable"] {
        again = next_look(&fleet, again).expect("a time to look again");
    }
    assert_eq!(again, now + fleet.timers.retry);
    assert_eq!(kinds(&orders(&fleet, again)), ["spawn"]);
}

#[test]
fn a_worker_of_a_withdrawn_model_is_stopped_once() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    fleet.worker_is(key("a", "w"), record(WorkerPhase::Ready), now);
    fleet.model_is_gone(&name("m"));
    assert_eq!(kinds(&orders(&fleet, now)), ["stop"]);
    fleet.told_to_stop(&key("a", "w"), now);
    assert_eq!(kinds(&orders(&fleet, now)), [""; 0]);
}

#[test]
fn the_loss_of_a_worker_or_of_its_hive_is_a_reason_to_look_for_waiting_jobs() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    let phases = [
        (WorkerPhase::Loading, Change::Same),
        (WorkerPhase::Ready, Change::Same),
        (WorkerPhase::Suspect, Change::Same),
        (WorkerPhase::Backoff, Change::Same),
        (WorkerPhase::CrashLoop, Change::Fewer),
        (WorkerPhase::Loading, Change::Same),
        (WorkerPhase::Draining, Change::Fewer),
        (WorkerPhase::Stopping, Change::Same),
    ];
    for (phase, change) in phases {
        assert_eq!(fleet.worker_is(key("a", "w"), record(phase), now), change, "{phase:?}");
    }
    assert_eq!(fleet.worker_is_gone(&key("a", "w")), Change::Fewer);
    assert_eq!(leaves(&mut fleet, "a"), Change::Fewer);
    assert_eq!(leaves(&mut fleet, "a"), Change::Same);
}

#[test]
fn workers_of_an_absent_hive_do_not_count() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    fleet.worker_is(key("a", "w"), record(WorkerPhase::Ready), now);
    leaves(&mut fleet, "a");
    assert_eq!(fleet.capacity(&name("m")), 0);
}

#[test]
fn a_pinned_model_keeps_its_worker_however_long_it_is_idle() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    fleet.model_is(name("m"), ModelSpec { pinned: true, ..spec() });
    assert_eq!(kinds(&orders(&fleet, now)), [""; 0], "it starts none by itself");
    fleet.worker_is(key("a", "w"), record(WorkerPhase::Ready), now);
    assert_eq!(next_look(&fleet, now), fleet.next_change().min(), "its idle time is no reason to look");
    assert_eq!(kinds(&orders(&fleet, now + Duration::from_secs(100_000))), [""; 0]);
    fleet.model_is_gone(&name("m"));
    assert_eq!(kinds(&orders(&fleet, now)), ["stop"]);
}

#[test]
fn a_suspect_worker_counts_is_not_replaced_and_is_not_idle() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    fleet.worker_is(key("a", "w"), record(WorkerPhase::Ready), now);
    fleet.worker_is(key("a", "w"), record(WorkerPhase::Suspect), now);
    assert_eq!(fleet.capacity(&name("m")), 1);
    assert_eq!(next_look(&fleet, now), fleet.next_change().min(), "its idle time is no reason to look");
    let late = now + Duration::from_secs(1000);
    assert_eq!(kinds(&orders(&fleet, late)), [""; 0]);
    fleet.job_waits(&name("m"), late);
    assert_eq!(kinds(&orders(&fleet, late)), [""; 0]);
    fleet.worker_is(key("a", "w"), record(WorkerPhase::Ready), late);
    assert_eq!(kinds(&orders(&fleet, late)), [""; 0]);
    fleet.jobs_found(&name("m"), 0, late);
    assert_eq!(next_look(&fleet, late), Some(late + Duration::from_secs(300)), "its time begins anew");
}

#[test]
fn a_worker_in_a_crash_loop_is_no_capacity_and_is_replaced_on_another_hive() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    fleet.worker_is(key("a", "w"), looping(), now);
    assert_eq!(fleet.capacity(&name("m")), 0);
    assert_eq!(kinds(&orders(&fleet, now)), [""; 0], "without demand it is left to its hive");
    fleet.hive_is_there(name("b"), hive(), now);
    fleet.job_waits(&name("m"), now);
    assert!(matches!(&orders(&fleet, now)[..], [Order::Spawn { hive, .. }] if hive.as_str() == "b"));
}

#[test]
fn a_worker_in_a_crash_loop_is_stopped_when_others_have_taken_its_place() {
    let looper = key("a", "w");
    // The most replicas, the other worker's phase, whether the looping one is stopped.
    for (max, other, is_stopped) in [
        (1, WorkerPhase::Loading, false),
        (1, WorkerPhase::Suspect, false),
        (1, WorkerPhase::Ready, true),
        (2, WorkerPhase::Ready, false),
    ] {
        let (mut fleet, now) = (fleet(Replicas { min: 0, max }), Instant::now());
        fleet.hive_is_there(name("b"), hive(), now);
        fleet.worker_is(looper.clone(), looping(), now);
        fleet.worker_is(key("b", "v"), record(other), now);
        let stopped: Vec<_> = orders(&fleet, now)
            .into_iter()
            .filter_map(|order| match order {
                Order::Stop { worker, .. } => Some(worker),
                _ => None,
            })
            .collect();
        assert_eq!(stopped == vec![looper.clone()], is_stopped, "{max} {other:?}: {stopped:?}");
        fleet.told_to_stop(&looper, now);
        assert_eq!(kinds(&orders(&fleet, now)), [""; 0], "once is enough");
    }
}

#[test]
fn jobs_are_refused_while_every_hive_is_out_because_of_crash_loops() {
    let (mut fleet, now) = (fleet(Replicas { min: 0, max: 2 }), Instant::now());
    let refused = |fleet: &Fleet| {
        let orders = orders(fleet, now);
        matches!(&orders[..], [Order::Refuse { failure, .. }] if failure.code == FailureCode::CrashLoop)
    };
    fleet.job_waits(&name("m"), now);
    fleet.worker_is(key("a", "w"), looping(), now);
    assert!(refused(&fleet));
    fleet.demand_is_over(&name("m"));
    fleet.job_waits(&name("m"), now);
    assert!(refused(&fleet), "those that come later too");

    fleet.worker_is(key("a", "w"), record(WorkerPhase::Loading), now);
    assert_eq!(kinds(&orders(&fleet, now)), [""; 0], "it may come up this time");
    fleet.worker_is(key("a", "w"), looping(), now);
    assert!(refused(&fleet), "it did not");

    fleet.ordered(key("a", "v"), name("m"), now);
    assert_eq!(kinds(&orders(&fleet, now)), [""; 0], "another may");
    fleet.worker_is(key("a", "v"), record(WorkerPhase::Ready), now);
    fleet.worker_is(key("a", "w"), record(WorkerPhase::Ready), now);
    fleet.worker_is(key("a", "v"), looping(), now);
    fleet.job_waits(&name("m"), now);
    assert_eq!(kinds(&orders(&fleet, now)), [""; 0], "one is ready");
}

#[test]
fn jobs_wait_while_a_worker_starts_although_a_second_one_has_no_place() {
    let (mut fleet, now) = (fleet(Replicas { min: 2, max: 2 }), Instant::now());
    fleet.job_waits(&name("m"), now);
    fleet.worker_is(key("a", "w"), looping(), now);
    fleet.worker_is(key("a", "v"), record(WorkerPhase::Loading), now);
    assert_eq!(kinds(&orders(&fleet, now)), ["unplaceable"]);
}

#[test]
fn jobs_wait_while_a_hive_drains_and_are_placed_when_it_is_resumed() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    fleet.hive_is_there(name("a"), draining(), now);
    fleet.job_waits(&name("m"), now);
    assert_eq!(kinds(&orders(&fleet, now)), ["unplaceable"]);
    fleet.hive_is_there(name("a"), hive(), now);
    assert_eq!(kinds(&orders(&fleet, now)), ["spawn"]);
}

#[test]
fn a_model_that_no_device_can_run_refuses_its_jobs_after_each_hive_was_tried_once() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    fleet.hive_is_there(name("b"), hive(), now);
    fleet.job_waits(&name("m"), now);
    fails(&mut fleet, "a", FailureCode::DeviceMissing, now);
    assert!(matches!(&orders(&fleet, now)[..], [Order::Spawn { hive, .. }] if hive.as_str() == "b"));
    fleet.job_waits(&name("m"), now);
    fails(&mut fleet, "b", FailureCode::DeviceMissing, now);
    let orders = orders(&fleet, now);
    assert!(matches!(&orders[..], [Order::Refuse { failure, .. }] if failure.code == FailureCode::DeviceMissing));
}
