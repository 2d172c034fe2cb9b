use std::time::Duration;

use rbee_schema::{Failure, FailureCode, JobClass, ModelSpec, Replicas, StopMode, WorkerPhase, WorkerRecord};

use super::*;
use crate::decide::{
    fixture::{
        actions, beat, draining, fails, fleet, fleet_with, hive, key, leaves, looping, name, next_deadline, record,
        spec,
    },
    fleet::Effect,
    limits::QueenLimits,
    timers::Timers,
};

fn kinds(actions: &[Action]) -> Vec<&'static str> {
    let kind = |action: &Action| match action {
        Action::Spawn(_) => "spawn",
        Action::Stop { .. } => "stop",
        Action::Refuse { .. } => "refuse",
        Action::ReportUnplaceable { .. } => "unplaceable",
    };
    actions.iter().map(kind).collect()
}

const ONE: Replicas = Replicas { min: 0, max: 1 };

#[test]
fn worker_is_started_on_demand_only() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    assert_eq!(kinds(&actions(&fleet, now)), [""; 0]);
    fleet.job_queued(&name("m"), now);
    assert_eq!(kinds(&actions(&fleet, now)), ["spawn"]);
    fleet.spawn_commanded(key("a", "w"), name("m"), now);
    assert_eq!(kinds(&actions(&fleet, now)), [""; 0], "the spawn was commanded already");
    fleet.worker_updated(key("a", "w"), record(WorkerPhase::Loading), now);
    assert_eq!(kinds(&actions(&fleet, now)), [""; 0]);
}

#[test]
fn spawn_that_is_not_reported_is_commanded_again() {
    let (mut fleet, now) = (fleet(Replicas { min: 1, max: 1 }), Instant::now());
    fleet.spawn_commanded(key("a", "w"), name("m"), now);
    fleet.expire_commands(now + Duration::from_secs(29));
    assert_eq!(kinds(&actions(&fleet, now)), [""; 0]);
    fleet.expire_commands(now + Duration::from_secs(30));
    assert_eq!(kinds(&actions(&fleet, now)), ["spawn"]);
}

#[test]
fn command_is_awaited_until_it_is_reported_or_expires() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    let worker = key("a", "w");
    fleet.spawn_commanded(worker.clone(), name("m"), now);
    assert!(fleet.awaits(&worker));
    fleet.worker_updated(worker.clone(), record(WorkerPhase::Ready), now);
    assert!(!fleet.awaits(&worker));
    fleet.stop_commanded(&worker, now);
    assert!(fleet.awaits(&worker));
    fleet.expire_commands(now + Duration::from_secs(30));
    assert!(!fleet.awaits(&worker));
}

#[test]
fn stops_are_commanded_again_in_a_new_term() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    fleet.worker_updated(key("a", "w"), record(WorkerPhase::Ready), now);
    fleet.model_withdrawn(&name("m"));
    fleet.stop_commanded(&key("a", "w"), now);
    assert_eq!(kinds(&actions(&fleet, now)), [""; 0]);
    fleet.forget_stops();
    assert_eq!(kinds(&actions(&fleet, now)), ["stop"]);
}

#[test]
fn minimum_is_kept_and_spread_over_the_hives() {
    let (mut fleet, now) = (fleet(Replicas { min: 3, max: 3 }), Instant::now());
    fleet.hive_registered(name("b"), hive(), now);
    let hives: Vec<String> = actions(&fleet, now)
        .iter()
        .filter_map(|action| match action {
            Action::Spawn(NewWorker { hive, .. }) => Some(hive.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(hives, ["a", "b", "a"]);
}

#[test]
fn model_without_a_hive_is_unplaceable_until_one_joins() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    leaves(&mut fleet, "a");
    fleet.job_queued(&name("m"), now);
    assert_eq!(kinds(&actions(&fleet, now)), ["unplaceable"]);
    fleet.hive_registered(name("b"), hive(), now);
    assert_eq!(kinds(&actions(&fleet, now)), ["spawn"]);
}

#[test]
fn idle_worker_stops_after_its_timeout_unless_the_minimum_needs_it() {
    let later = |now: Instant| now + Duration::from_secs(300);
    for (min, has_deadline, expected) in [(0, true, vec!["stop"]), (1, false, vec![])] {
        let (mut fleet, now) = (fleet(Replicas { min, max: 1 }), Instant::now());
        fleet.worker_updated(key("a", "w"), record(WorkerPhase::Ready), now);
        let idle = has_deadline.then(|| later(now));
        assert_eq!(next_deadline(&fleet, now), idle.or_else(|| fleet.deadlines().min()));
        assert_eq!(kinds(&actions(&fleet, now + Duration::from_secs(299))), [""; 0]);
        assert_eq!(kinds(&actions(&fleet, later(now))), expected);
    }
}

#[test]
fn idle_time_starts_at_the_end_of_the_last_job() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    fleet.worker_updated(key("a", "w"), record(WorkerPhase::Ready), now);
    let end = now + Duration::from_secs(1000);
    fleet.worker_heartbeat(&key("a", "w"), beat(1), now);
    assert_eq!(kinds(&actions(&fleet, end)), [""; 0]);
    fleet.worker_heartbeat(&key("a", "w"), beat(0), end);
    assert_eq!(kinds(&actions(&fleet, end + Duration::from_secs(299))), [""; 0]);
    assert_eq!(kinds(&actions(&fleet, end + Duration::from_secs(300))), ["stop"]);
}

#[test]
fn model_that_cannot_start_is_retried_for_a_new_job() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    fleet.job_queued(&name("m"), now);
    let failure = Failure::new(FailureCode::ModelMissing, "no file");
    let failed = WorkerRecord { failure: Some(failure.clone()), ..record(WorkerPhase::Failed) };
    fleet.worker_updated(key("a", "w"), failed, now);
    assert_eq!(actions(&fleet, now)[0], Action::Refuse { model: name("m"), class: None, failure });
    fleet.stop_commanded(&key("a", "w"), now);
    fleet.jobs_refused(&name("m"));
    assert_eq!(kinds(&actions(&fleet, now)), [""; 0]);
    fleet.job_queued(&name("m"), now);
    assert_eq!(kinds(&actions(&fleet, now)), ["spawn"]);
}

#[test]
fn temporary_failure_keeps_the_jobs_and_is_retried() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    fleet.job_queued(&name("m"), now);
    let failure = Failure::new(FailureCode::PortsExhausted, "none");
    let failed = WorkerRecord { failure: Some(failure), ..record(WorkerPhase::Failed) };
    fleet.worker_updated(key("a", "w"), failed, now);
    fleet.worker_removed(&key("a", "w"));
    assert_eq!(kinds(&actions(&fleet, now)), ["unplaceable"]);
    let mut again = now;
    while kinds(&actions(&fleet, again)) == ["unplaceable"] {
        again = next_deadline(&fleet, again).expect("a deadline");
    }
    assert_eq!(again, now + fleet.timers().retry);
    assert_eq!(kinds(&actions(&fleet, again)), ["spawn"]);
}

#[test]
fn worker_of_a_withdrawn_model_is_stopped_once() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    fleet.worker_updated(key("a", "w"), record(WorkerPhase::Ready), now);
    fleet.model_withdrawn(&name("m"));
    assert_eq!(kinds(&actions(&fleet, now)), ["stop"]);
    fleet.stop_commanded(&key("a", "w"), now);
    assert_eq!(kinds(&actions(&fleet, now)), [""; 0]);
}

#[test]
fn queue_is_counted_when_a_worker_or_its_hive_is_lost() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    let phases = [
        (WorkerPhase::Loading, vec![]),
        (WorkerPhase::Ready, vec![]),
        (WorkerPhase::Suspect, vec![]),
        (WorkerPhase::Backoff, vec![]),
        (WorkerPhase::CrashLoop, vec![Effect::CountQueue]),
        (WorkerPhase::Loading, vec![]),
        (WorkerPhase::Draining, vec![Effect::CountQueue]),
        (WorkerPhase::Stopping, vec![]),
    ];
    for (phase, effects) in phases {
        assert_eq!(fleet.worker_updated(key("a", "w"), record(phase), now), effects, "{phase:?}");
    }
    assert_eq!(fleet.worker_removed(&key("a", "w")), [Effect::CountQueue]);
    assert_eq!(leaves(&mut fleet, "a"), [Effect::CountQueue]);
    assert_eq!(leaves(&mut fleet, "a"), []);
}

#[test]
fn worker_whose_record_was_deleted_is_replaced_only_if_its_hive_is_silent() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    let (key, limit) = (key("a", "w"), now + fleet.timers().suspect);
    fleet.worker_updated(key.clone(), record(WorkerPhase::Ready), now);
    assert_eq!(fleet.worker_record_removed(&key, now), []);
    let mut silent = fleet.clone();
    assert!(silent.advance(limit).contains(&Effect::CountQueue));
    assert_eq!(silent.workers().len(), 0);
    // Its hive writes the record again.
    fleet.worker_updated(key.clone(), record(WorkerPhase::Ready), now);
    fleet.advance(limit);
    assert_eq!(fleet.workers().len(), 1);
    // One that was told to stop is gone with its record.
    fleet.stop_commanded(&key, now);
    assert_eq!(fleet.worker_record_removed(&key, now), [Effect::CountQueue]);
}

#[test]
fn workers_of_an_absent_hive_are_no_capacity() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    fleet.worker_updated(key("a", "w"), record(WorkerPhase::Ready), now);
    leaves(&mut fleet, "a");
    assert_eq!((fleet.workers().len(), fleet.capacity(&name("m"))), (1, 0));
}

#[test]
fn pinned_model_keeps_its_idle_worker() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    fleet.model_declared(name("m"), ModelSpec { pinned: true, ..spec() });
    assert_eq!(kinds(&actions(&fleet, now)), [""; 0], "pinning alone starts no worker");
    fleet.worker_updated(key("a", "w"), record(WorkerPhase::Ready), now);
    assert_eq!(next_deadline(&fleet, now), fleet.deadlines().min(), "idle time sets no deadline");
    assert_eq!(kinds(&actions(&fleet, now + Duration::from_secs(100_000))), [""; 0]);
    fleet.model_withdrawn(&name("m"));
    assert_eq!(kinds(&actions(&fleet, now)), ["stop"]);
}

#[test]
fn suspect_worker_is_capacity_and_is_not_idle() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    fleet.worker_updated(key("a", "w"), record(WorkerPhase::Ready), now);
    fleet.worker_updated(key("a", "w"), record(WorkerPhase::Suspect), now);
    assert_eq!(fleet.capacity(&name("m")), 1);
    assert_eq!(next_deadline(&fleet, now), fleet.deadlines().min(), "idle time sets no deadline");
    let late = now + Duration::from_secs(1000);
    assert_eq!(kinds(&actions(&fleet, late)), [""; 0]);
    fleet.job_queued(&name("m"), late);
    assert_eq!(kinds(&actions(&fleet, late)), [""; 0]);
    fleet.worker_updated(key("a", "w"), record(WorkerPhase::Ready), late);
    assert_eq!(kinds(&actions(&fleet, late)), [""; 0]);
    fleet.queue_counted(&name("m"), 0, late, late);
    assert_eq!(next_deadline(&fleet, late), Some(late + Duration::from_secs(300)), "the idle time starts again");
}

#[test]
fn worker_in_a_crash_loop_is_replaced_on_another_hive() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    fleet.worker_updated(key("a", "w"), looping(), now);
    assert_eq!(fleet.capacity(&name("m")), 0);
    assert_eq!(kinds(&actions(&fleet, now)), [""; 0], "without demand, only its hive tries it again");
    fleet.hive_registered(name("b"), hive(), now);
    fleet.job_queued(&name("m"), now);
    assert!(matches!(&actions(&fleet, now)[..], [Action::Spawn(NewWorker { hive, .. })] if hive.as_str() == "b"));
}

#[test]
fn worker_in_a_crash_loop_is_stopped_once_it_is_replaced() {
    let looper = key("a", "w");
    // Maximum of replicas, phase of the other worker, and whether the looping one is stopped.
    for (max, other, is_stopped) in [
        (1, WorkerPhase::Loading, false),
        (1, WorkerPhase::Suspect, false),
        (1, WorkerPhase::Ready, true),
        (2, WorkerPhase::Ready, false),
    ] {
        let (mut fleet, now) = (fleet(Replicas { min: 0, max }), Instant::now());
        fleet.hive_registered(name("b"), hive(), now);
        fleet.worker_updated(looper.clone(), looping(), now);
        fleet.worker_updated(key("b", "v"), record(other), now);
        let found = plan(&fleet, &Scope::Everything, now).to_string();
        let stop = "stop worker w on a: it is in a crash loop, and worker v on b serves m";
        assert_eq!(found, if is_stopped { stop } else { "nothing to do" }, "{max} {other:?}");
        fleet.stop_commanded(&looper, now);
        assert_eq!(kinds(&actions(&fleet, now)), [""; 0], "it is stopped once");
    }
}

#[test]
fn jobs_are_refused_while_the_model_crash_loops_on_every_hive() {
    let (mut fleet, now) = (fleet(Replicas { min: 0, max: 2 }), Instant::now());
    let refused = |fleet: &Fleet| {
        let actions = actions(fleet, now);
        matches!(&actions[..], [Action::Refuse { failure, .. }] if failure.code == FailureCode::CrashLoop)
    };
    fleet.job_queued(&name("m"), now);
    fleet.worker_updated(key("a", "w"), looping(), now);
    assert!(refused(&fleet));
    fleet.jobs_refused(&name("m"));
    fleet.job_queued(&name("m"), now);
    assert!(refused(&fleet), "later jobs too");

    fleet.worker_updated(key("a", "w"), record(WorkerPhase::Loading), now);
    assert_eq!(kinds(&actions(&fleet, now)), [""; 0], "this start may succeed");
    fleet.worker_updated(key("a", "w"), looping(), now);
    assert!(refused(&fleet), "it failed again");

    fleet.spawn_commanded(key("a", "v"), name("m"), now);
    assert_eq!(kinds(&actions(&fleet, now)), [""; 0], "another worker may succeed");
    fleet.worker_updated(key("a", "v"), record(WorkerPhase::Ready), now);
    fleet.worker_updated(key("a", "w"), record(WorkerPhase::Ready), now);
    fleet.worker_updated(key("a", "v"), looping(), now);
    fleet.job_queued(&name("m"), now);
    assert_eq!(kinds(&actions(&fleet, now)), [""; 0], "one worker is ready");
}

#[test]
fn jobs_wait_for_a_starting_worker_if_a_second_has_no_placement() {
    let (mut fleet, now) = (fleet(Replicas { min: 2, max: 2 }), Instant::now());
    fleet.job_queued(&name("m"), now);
    fleet.worker_updated(key("a", "w"), looping(), now);
    fleet.worker_updated(key("a", "v"), record(WorkerPhase::Loading), now);
    assert_eq!(kinds(&actions(&fleet, now)), ["unplaceable"]);
}

#[test]
fn jobs_wait_while_the_only_hive_is_draining() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    fleet.hive_registered(name("a"), draining(), now);
    fleet.job_queued(&name("m"), now);
    assert_eq!(kinds(&actions(&fleet, now)), ["unplaceable"]);
    fleet.hive_registered(name("a"), hive(), now);
    assert_eq!(kinds(&actions(&fleet, now)), ["spawn"]);
}

#[test]
fn jobs_are_refused_after_each_hive_lacked_the_device() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    fleet.hive_registered(name("b"), hive(), now);
    fleet.job_queued(&name("m"), now);
    fails(&mut fleet, "a", FailureCode::DeviceMissing, now);
    assert!(matches!(&actions(&fleet, now)[..], [Action::Spawn(NewWorker { hive, .. })] if hive.as_str() == "b"));
    fleet.job_queued(&name("m"), now);
    fails(&mut fleet, "b", FailureCode::DeviceMissing, now);
    let actions = actions(&fleet, now);
    assert!(matches!(&actions[..], [Action::Refuse { failure, .. }] if failure.code == FailureCode::DeviceMissing));
}

#[test]
fn plan_prints_one_action_per_line_with_its_reason() {
    let (mut fleet, now) = (fleet(Replicas { min: 2, max: 2 }), Instant::now());
    assert_eq!(plan(&Fleet::default(), &Scope::Everything, now).to_string(), "nothing to do");
    fleet.worker_updated(key("a", "idle"), WorkerRecord { model: name("gone"), ..record(WorkerPhase::Ready) }, now);
    fleet.hive_registered(name("b"), draining(), now);
    assert_eq!(
        plan(&fleet, &Scope::Everything, now).to_string(),
        "start a worker for m on a: the model needs at least 2 workers; a is the only hive that can run it; \
         b is draining\n\
         start a worker for m on a: the model needs at least 2 workers; a is the only hive that can run it; \
         b is draining\n\
         stop worker idle on a: model gone is no longer declared"
    );
}

#[test]
fn waiting_jobs_start_workers_while_the_wait_exceeds_a_start() {
    let (mut fleet, now) = (fleet(Replicas { min: 1, max: 4 }), Instant::now());
    fleet.worker_updated(key("a", "w"), record(WorkerPhase::Ready), now);
    fleet.worker_heartbeat(&key("a", "w"), beat(2), now);
    let later = now + Duration::from_secs(4);
    fleet.worker_heartbeat(&key("a", "w"), beat(0), later);
    fleet.worker_heartbeat(&key("a", "w"), beat(2), later);
    fleet.queue_counted(&name("m"), 8, later, later);
    let plan = plan(&fleet, &Scope::Everything, later);
    assert_eq!(kinds(&plan.actions), ["spawn"; 3], "{plan}");
    let why = "6 jobs waiting for 2 slots, the last one for about 12.0s; a new worker starts in about 2.0s";
    assert!(plan.to_string().contains(why), "{plan}");
}

#[test]
fn withdrawn_model_lets_its_workers_finish() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    fleet.worker_updated(key("a", "w"), record(WorkerPhase::Ready), now);
    fleet.model_withdrawn(&name("m"));
    assert!(matches!(&actions(&fleet, now)[..], [Action::Stop { mode: StopMode::Finish, .. }]));
}

#[test]
fn interactive_jobs_are_refused_when_nobody_serves_them_in_time() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    leaves(&mut fleet, "a");
    fleet.job_queued(&name("m"), now);
    let due = now + fleet.timers().unserved;
    assert_eq!(next_deadline(&fleet, now), Some(now + fleet.timers().wait));
    assert_eq!(kinds(&actions(&fleet, due - Duration::from_millis(1))), ["unplaceable"]);
    let refused = actions(&fleet, due);
    assert!(matches!(&refused[1], Action::Refuse { class: Some(JobClass::Interactive), .. }), "{refused:?}");
}

#[test]
fn jobs_are_left_to_a_worker_of_a_lost_hive_while_it_is_heard() {
    let now = Instant::now();
    let mut fleet = fleet_with(ONE, Timers::default(), QueenLimits::default());
    fleet.worker_updated(key("a", "w"), record(WorkerPhase::Ready), now);
    let lost = now + 2 * fleet.timers().lost;
    fleet.advance(lost);
    fleet.advance(lost);
    fleet.job_queued(&name("m"), lost);
    let overdue = lost + fleet.timers().unserved;
    fleet.worker_heartbeat(&key("a", "w"), beat(1), overdue);
    assert_eq!(kinds(&actions(&fleet, overdue)), ["unplaceable"]);
    let silent = overdue + fleet.timers().suspect;
    assert_eq!(next_deadline(&fleet, overdue), Some(silent));
    assert_eq!(kinds(&actions(&fleet, silent)), ["unplaceable", "refuse"]);
}

#[test]
fn first_load_of_a_worker_is_waited_for_and_a_repeated_one_is_not() {
    for (exits, expected) in [(0, vec![]), (1, vec!["refuse"])] {
        let (mut fleet, now) = (fleet(ONE), Instant::now());
        fleet.job_queued(&name("m"), now);
        fleet.worker_updated(key("a", "w"), WorkerRecord { exits, ..record(WorkerPhase::Loading) }, now);
        assert_eq!(kinds(&actions(&fleet, now + fleet.timers().unserved)), expected, "{exits}");
    }
}

#[test]
fn demand_ends_with_the_last_job_that_asks_for_it() {
    let now = Instant::now();
    for by_count in [true, false] {
        let mut fleet = fleet(ONE);
        fleet.job_queued(&name("m"), now);
        let later = now + Duration::from_secs(1);
        match by_count {
            true => fleet.queue_counted(&name("m"), 0, later, later),
            false => fleet.job_left(&name("m"), later),
        }
        assert_eq!((fleet.waiting(&name("m")), kinds(&actions(&fleet, later))), (0, vec![]), "{by_count}");
    }
}

#[test]
fn job_that_was_queued_during_a_count_stays_in_demand() {
    let (mut fleet, now) = (fleet(ONE), Instant::now());
    fleet.job_queued(&name("m"), now + Duration::from_secs(1));
    fleet.queue_counted(&name("m"), 0, now, now + Duration::from_secs(2));
    assert_eq!(kinds(&actions(&fleet, now + Duration::from_secs(2))), ["spawn"]);
}
