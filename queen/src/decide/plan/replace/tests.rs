use std::time::{Duration, Instant};

use rbee_schema::{HiveRecord, ModelReference, ModelSpec, Replicas, WorkerPhase, WorkerRecord};

use crate::decide::{
    fixture::{actions, beat, draining, fleet, hive, key, name, record, spec},
    fleet::{Fleet, WorkerKey},
    plan::{Action, NewWorker},
};

/// The declaration after a change.
fn changed(replicas: Replicas) -> ModelSpec {
    ModelSpec { replicas, reference: ModelReference::Mock("changed".into()), ..spec() }
}

fn started_with(spec: ModelSpec, phase: WorkerPhase) -> WorkerRecord {
    WorkerRecord { spec: Some(spec), ..record(phase) }
}

/// Carries out a plan at once and returns its actions: `+hive` for a spawn, `-worker` for a stop.
fn carry_out(fleet: &mut Fleet, now: Instant, next: &mut u32) -> Vec<String> {
    let actions = actions(fleet, now);
    let mut done = Vec::new();
    for action in actions {
        match action {
            Action::Spawn(NewWorker { model, hive, .. }) => {
                *next += 1;
                fleet.spawn_commanded((hive.clone(), name(&format!("new{next}"))), model, now);
                done.push(format!("+{hive}"));
            }
            Action::Stop { worker, .. } => {
                fleet.stop_commanded(&worker, now);
                done.push(format!("-{}", worker.1));
            }
            Action::Refuse { .. } | Action::ReportUnplaceable { .. } => done.push("unplaceable".to_owned()),
        }
    }
    done
}

/// Workers of commanded spawns.
fn spawned(fleet: &Fleet) -> Vec<WorkerKey> {
    let a = name("a");
    fleet.pending_spawns_on(&a).map(|(key, _)| key.clone()).collect()
}

#[test]
fn new_worker_is_ready_before_the_old_one_stops() {
    let one = Replicas { min: 1, max: 1 };
    let (mut fleet, now) = (fleet(one), Instant::now());
    fleet.worker_updated(key("a", "old"), started_with(ModelSpec { replicas: one, ..spec() }, WorkerPhase::Ready), now);
    let mut next = 0;
    assert_eq!(carry_out(&mut fleet, now, &mut next), [""; 0]);
    fleet.model_declared(name("m"), changed(one));
    assert_eq!(carry_out(&mut fleet, now, &mut next), ["+a"]);
    assert_eq!(carry_out(&mut fleet, now, &mut next), [""; 0], "the spawn was commanded already");
    fleet.worker_updated(key("a", "new1"), started_with(changed(one), WorkerPhase::Loading), now);
    assert_eq!(carry_out(&mut fleet, now, &mut next), [""; 0], "the new worker is not ready yet");
    fleet.worker_updated(key("a", "new1"), started_with(changed(one), WorkerPhase::Ready), now);
    assert_eq!(carry_out(&mut fleet, now, &mut next), ["-old"]);
    fleet.worker_removed(&key("a", "old"));
    assert_eq!(carry_out(&mut fleet, now, &mut next), [""; 0]);
}

#[test]
fn replacement_keeps_the_minimum_and_exceeds_the_maximum_by_one() {
    for (min, max, old) in [(2, 2, 2), (3, 3, 3), (0, 5, 2), (1, 4, 4), (0, 1, 1)] {
        let replicas = Replicas { min, max };
        let (mut fleet, now) = (fleet(replicas), Instant::now());
        let before = ModelSpec { replicas, ..spec() };
        for worker in 0..old {
            fleet.worker_updated(
                key("a", &format!("old{worker}")),
                started_with(before.clone(), WorkerPhase::Ready),
                now,
            );
        }
        fleet.model_declared(name("m"), changed(replicas));
        let mut next = 0;
        for _ in 0..40 {
            let done = carry_out(&mut fleet, now, &mut next);
            let serving = fleet.serving(&name("m")).count() + fleet.pending_spawns_of(&name("m"));
            let ready = fleet.serving(&name("m")).filter(|(_, worker)| worker.is_ready()).count();
            assert!(ready as u32 >= min, "{min}..{max}: {ready} are ready after {done:?}");
            assert!(serving as u32 <= max + 1, "{min}..{max}: {serving} serve after {done:?}");
            // Spawned workers become ready, stopped ones leave.
            for key in spawned(&fleet) {
                fleet.worker_updated(key, started_with(changed(replicas), WorkerPhase::Ready), now);
            }
            let gone: Vec<_> = fleet.workers().iter().filter(|(_, worker)| worker.stop_commanded.is_some()).collect();
            for key in gone.into_iter().map(|(key, _)| key.clone()).collect::<Vec<_>>() {
                fleet.worker_removed(&key);
            }
        }
        let old = fleet.workers().keys().filter(|(_, worker)| worker.as_str().starts_with("old")).count();
        assert_eq!(old, 0, "{min}..{max}: all old workers are replaced");
    }
}

#[test]
fn outdated_worker_that_is_not_ready_stops_at_once() {
    let one = Replicas { min: 1, max: 1 };
    let (mut fleet, now) = (fleet(one), Instant::now());
    fleet.worker_updated(
        key("a", "old"),
        started_with(ModelSpec { replicas: one, ..spec() }, WorkerPhase::Backoff),
        now,
    );
    fleet.model_declared(name("m"), changed(one));
    let mut next = 0;
    assert_eq!(carry_out(&mut fleet, now, &mut next), ["-old"]);
    assert_eq!(carry_out(&mut fleet, now, &mut next), ["+a"]);
}

#[test]
fn settings_that_the_process_does_not_get_replace_no_worker() {
    let (mut fleet, now) = (fleet(Replicas { min: 1, max: 1 }), Instant::now());
    fleet.worker_updated(key("a", "w"), started_with(spec(), WorkerPhase::Ready), now);
    let idle_timeout = Duration::from_secs(7);
    fleet.model_declared(
        name("m"),
        ModelSpec { replicas: Replicas { min: 1, max: 3 }, idle_timeout, priority: 3, ..spec() },
    );
    assert_eq!(carry_out(&mut fleet, now, &mut 0), [""; 0]);
}

#[test]
fn workers_of_a_draining_hive_are_replaced_elsewhere_first() {
    let one = Replicas { min: 1, max: 1 };
    let (mut fleet, now) = (fleet(one), Instant::now());
    fleet.hive_registered(name("b"), hive(), now);
    fleet.worker_updated(key("a", "w"), record(WorkerPhase::Ready), now);
    fleet.hive_registered(name("a"), draining(), now);
    let mut next = 0;
    assert_eq!(carry_out(&mut fleet, now, &mut next), ["+b"]);
    fleet.worker_updated(key("b", "new1"), record(WorkerPhase::Ready), now);
    assert_eq!(carry_out(&mut fleet, now, &mut next), ["-w"]);
}

#[test]
fn idle_worker_of_a_draining_hive_stops_without_a_successor() {
    let (mut fleet, now) = (fleet(Replicas { min: 0, max: 1 }), Instant::now());
    fleet.hive_registered(name("b"), hive(), now);
    fleet.worker_updated(key("a", "w"), record(WorkerPhase::Ready), now);
    fleet.hive_registered(name("a"), draining(), now);
    assert_eq!(carry_out(&mut fleet, now, &mut 0), ["-w"]);
}

#[test]
fn duplicates_after_a_hive_returned_stop_idle_ones_first() {
    let one = Replicas { min: 1, max: 1 };
    let (mut fleet, now) = (fleet(one), Instant::now());
    fleet.hive_registered(name("b"), hive(), now);
    fleet.worker_updated(key("a", "busy"), record(WorkerPhase::Ready), now);
    fleet.worker_heartbeat(&key("a", "busy"), beat(1), now);
    fleet.worker_updated(key("b", "idle"), record(WorkerPhase::Ready), now);
    assert_eq!(carry_out(&mut fleet, now, &mut 0), ["-idle"]);
    assert_eq!(carry_out(&mut fleet, now, &mut 0), [""; 0]);
}

#[test]
fn idle_worker_is_preempted_after_its_residency() {
    let full = || HiveRecord { max_workers: Some(1), ..hive() };
    // Pinned, priority of the other model, seconds since its worker is ready, and whether that is preempted.
    for (pinned, priority, seconds, is_preempted) in [
        (false, 0, 20, true),
        (false, 0, 19, false),
        (true, 0, 20, false),
        (false, 1, 20, false),
        (false, -1, 20, true),
    ] {
        let (mut fleet, now) = (fleet(Replicas { min: 0, max: 1 }), Instant::now());
        fleet.hive_registered(name("a"), full(), now);
        fleet.model_declared(name("other"), ModelSpec { pinned, priority, ..spec() });
        let other = WorkerRecord { model: name("other"), ..record(WorkerPhase::Ready) };
        fleet.worker_updated(key("a", "w"), other, now);
        fleet.job_queued(&name("m"), now);
        let later = now + Duration::from_secs(seconds);
        fleet.restart_timeouts(later);
        let done = carry_out(&mut fleet, later, &mut 0);
        assert_eq!(done.contains(&"-w".to_owned()), is_preempted, "{pinned} {priority} {seconds}: {done:?}");
        if is_preempted {
            assert!(!carry_out(&mut fleet, later, &mut 0).contains(&"-w".to_owned()), "it is stopped once");
            fleet.worker_removed(&key("a", "w"));
            assert_eq!(carry_out(&mut fleet, later, &mut 0), ["+a"]);
        }
    }
}
