use std::time::{Duration, Instant};

use rbee_schema::{HiveRecord, ModelReference, ModelSpec, Replicas, WorkerPhase, WorkerRecord};

use crate::decide::{
    fixture::{beat, draining, fleet, hive, key, name, orders, record, spec},
    fleet::Fleet,
    scale::Order,
};

/// The declaration after a change.
fn changed(replicas: Replicas) -> ModelSpec {
    ModelSpec { replicas, reference: ModelReference::Mock("changed".into()), ..spec() }
}

fn started_with(spec: ModelSpec, phase: WorkerPhase) -> WorkerRecord {
    WorkerRecord { spec: Some(spec), ..record(phase) }
}

/// What is ordered, and carried out at once: `+hive` for a spawn, `-worker` for a stop.
fn carry_out(fleet: &mut Fleet, now: Instant, next: &mut u32) -> Vec<String> {
    let orders = orders(fleet, now);
    let mut done = Vec::new();
    for order in orders {
        match order {
            Order::Spawn { model, hive, .. } => {
                *next += 1;
                fleet.ordered((hive.clone(), name(&format!("new{next}"))), model, now);
                done.push(format!("+{hive}"));
            }
            Order::Stop { worker, .. } => {
                fleet.told_to_stop(&worker, now);
                done.push(format!("-{}", worker.1));
            }
            Order::Refuse { .. } | Order::Unplaceable { .. } => done.push("nowhere".to_owned()),
        }
    }
    done
}

#[test]
fn the_new_worker_is_ready_before_the_old_one_goes() {
    let one = Replicas { min: 1, max: 1 };
    let (mut fleet, now) = (fleet(one), Instant::now());
    fleet.worker_is(key("a", "old"), started_with(ModelSpec { replicas: one, ..spec() }, WorkerPhase::Ready), now);
    let mut next = 0;
    assert_eq!(carry_out(&mut fleet, now, &mut next), [""; 0]);
    fleet.model_is(name("m"), changed(one));
    assert_eq!(carry_out(&mut fleet, now, &mut next), ["+a"]);
    assert_eq!(carry_out(&mut fleet, now, &mut next), [""; 0], "it is under way");
    fleet.worker_is(key("a", "new1"), started_with(changed(one), WorkerPhase::Loading), now);
    assert_eq!(carry_out(&mut fleet, now, &mut next), [""; 0], "it does not serve yet");
    fleet.worker_is(key("a", "new1"), started_with(changed(one), WorkerPhase::Ready), now);
    assert_eq!(carry_out(&mut fleet, now, &mut next), ["-old"]);
    fleet.worker_is_gone(&key("a", "old"));
    assert_eq!(carry_out(&mut fleet, now, &mut next), [""; 0]);
}

#[test]
fn there_are_never_fewer_ready_than_the_minimum_and_never_more_than_one_beyond_the_maximum() {
    for (min, max, old) in [(2, 2, 2), (3, 3, 3), (0, 5, 2), (1, 4, 4), (0, 1, 1)] {
        let bounds = Replicas { min, max };
        let (mut fleet, now) = (fleet(bounds), Instant::now());
        let before = ModelSpec { replicas: bounds, ..spec() };
        for worker in 0..old {
            fleet.worker_is(key("a", &format!("old{worker}")), started_with(before.clone(), WorkerPhase::Ready), now);
        }
        fleet.model_is(name("m"), changed(bounds));
        let mut next = 0;
        for _ in 0..40 {
            let done = carry_out(&mut fleet, now, &mut next);
            let serving = fleet.serving(&name("m")).count() + fleet.orders_for(&name("m"));
            let ready = fleet.serving(&name("m")).filter(|(_, worker)| worker.is_ready()).count();
            assert!(ready as u32 >= min, "{min}..{max}: {ready} are ready after {done:?}");
            assert!(serving as u32 <= max + 1, "{min}..{max}: {serving} serve after {done:?}");
            // What was ordered comes up, what was stopped goes.
            for order in fleet.orders.keys().cloned().collect::<Vec<_>>() {
                fleet.worker_is(order, started_with(changed(bounds), WorkerPhase::Ready), now);
            }
            let gone: Vec<_> = fleet.workers.iter().filter(|(_, worker)| worker.told_to_stop.is_some()).collect();
            for key in gone.into_iter().map(|(key, _)| key.clone()).collect::<Vec<_>>() {
                fleet.worker_is_gone(&key);
            }
        }
        let old = fleet.workers.keys().filter(|(_, worker)| worker.as_str().starts_with("old")).count();
        assert_eq!(old, 0, "{min}..{max}: all of them are replaced");
    }
}

#[test]
fn a_worker_of_an_old_declaration_that_serves_nobody_goes_at_once() {
    let one = Replicas { min: 1, max: 1 };
    let (mut fleet, now) = (fleet(one), Instant::now());
    fleet.worker_is(key("a", "old"), started_with(ModelSpec { replicas: one, ..spec() }, WorkerPhase::Backoff), now);
    fleet.model_is(name("m"), changed(one));
    let mut next = 0;
    assert_eq!(carry_out(&mut fleet, now, &mut next), ["-old"]);
    assert_eq!(carry_out(&mut fleet, now, &mut next), ["+a"]);
}

#[test]
fn what_a_process_is_not_told_is_no_reason_to_replace_it() {
    let (mut fleet, now) = (fleet(Replicas { min: 1, max: 1 }), Instant::now());
    fleet.worker_is(key("a", "w"), started_with(spec(), WorkerPhase::Ready), now);
    let idle_timeout = Duration::from_secs(7);
    fleet.model_is(name("m"), ModelSpec { replicas: Replicas { min: 1, max: 3 }, idle_timeout, priority: 3, ..spec() });
    assert_eq!(carry_out(&mut fleet, now, &mut 0), [""; 0]);
}

#[test]
fn the_workers_of_a_hive_that_drains_are_replaced_elsewhere_first() {
    let one = Replicas { min: 1, max: 1 };
    let (mut fleet, now) = (fleet(one), Instant::now());
    fleet.hive_is_there(name("b"), hive(), now);
    fleet.worker_is(key("a", "w"), record(WorkerPhase::Ready), now);
    fleet.hive_is_there(name("a"), draining(), now);
    let mut next = 0;
    assert_eq!(carry_out(&mut fleet, now, &mut next), ["+b"]);
    fleet.worker_is(key("b", "new1"), record(WorkerPhase::Ready), now);
    assert_eq!(carry_out(&mut fleet, now, &mut next), ["-w"]);
}

#[test]
fn an_idle_worker_of_a_hive_that_drains_goes_without_another_in_its_place() {
    let (mut fleet, now) = (fleet(Replicas { min: 0, max: 1 }), Instant::now());
    fleet.hive_is_there(name("b"), hive(), now);
    fleet.worker_is(key("a", "w"), record(WorkerPhase::Ready), now);
    fleet.hive_is_there(name("a"), draining(), now);
    assert_eq!(carry_out(&mut fleet, now, &mut 0), ["-w"]);
}

#[test]
fn duplicates_after_the_return_of_a_hive_are_drained_the_idle_ones_first() {
    let one = Replicas { min: 1, max: 1 };
    let (mut fleet, now) = (fleet(one), Instant::now());
    fleet.hive_is_there(name("b"), hive(), now);
    fleet.worker_is(key("a", "busy"), record(WorkerPhase::Ready), now);
    fleet.worker_beats(&key("a", "busy"), beat(1), now);
    fleet.worker_is(key("b", "idle"), record(WorkerPhase::Ready), now);
    assert_eq!(carry_out(&mut fleet, now, &mut 0), ["-idle"]);
    assert_eq!(carry_out(&mut fleet, now, &mut 0), [""; 0]);
}

#[test]
fn an_idle_worker_makes_room_for_a_model_in_demand_when_it_has_served_for_a_while() {
    let full = || HiveRecord { max_workers: Some(1), ..hive() };
    // Pinned, priority of the other, seconds since it is ready, whether it is swapped out.
    for (pinned, priority, seconds, is_swapped) in [
        (false, 0, 20, true),
        (false, 0, 19, false),
        (true, 0, 20, false),
        (false, 1, 20, false),
        (false, -1, 20, true),
    ] {
        let (mut fleet, now) = (fleet(Replicas { min: 0, max: 1 }), Instant::now());
        fleet.hive_is_there(name("a"), full(), now);
        fleet.model_is(name("other"), ModelSpec { pinned, priority, ..spec() });
        let other = WorkerRecord { model: name("other"), ..record(WorkerPhase::Ready) };
        fleet.worker_is(key("a", "w"), other, now);
        fleet.job_waits(&name("m"), now);
        let later = now + Duration::from_secs(seconds);
        fleet.was_deaf(later);
        let done = carry_out(&mut fleet, later, &mut 0);
        assert_eq!(done.contains(&"-w".to_owned()), is_swapped, "{pinned} {priority} {seconds}: {done:?}");
        if is_swapped {
            assert!(!carry_out(&mut fleet, later, &mut 0).contains(&"-w".to_owned()), "once is enough");
            fleet.worker_is_gone(&key("a", "w"));
            assert_eq!(carry_out(&mut fleet, later, &mut 0), ["+a"]);
        }
    }
}
