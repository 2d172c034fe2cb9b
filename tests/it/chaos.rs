//! Every fault of `rbee_tests::chaos`, injected once: its outcome and the invariants of the whole fleet hold. `make chaos`
//! measures the times; no test depends on them.

use std::time::Duration;

use rbee_tests::chaos::{FAULTS, RandomFaults, RandomModel, fault};

/// Defines one test for each fault: `rule => "name of the fault"`.
macro_rules! rules {
    ($($rule:ident => $fault:literal,)*) => {
        $(
            #[tokio::test]
            async fn $rule() {
                holds($fault).await;
            }
        )*

        #[test]
        fn every_fault_has_its_rule() {
            let faults: Vec<&str> = FAULTS.iter().map(|fault| fault.name).collect();
            assert_eq!(faults, [$($fault),*]);
        }
    };
}

rules! {
    answer_of_a_killed_worker_continues_on_another => "worker-killed",
    frozen_worker_is_suspect_at_once_and_killed_after_its_timeout => "worker-frozen",
    frozen_adopted_worker_is_found_by_missing_heartbeats => "adopted-worker-frozen",
    appends_of_a_thawed_worker_to_a_resumed_job_are_refused => "zombie-thawed",
    worker_with_heartbeats_and_no_steps_is_killed => "worker-hangs",
    worker_is_killed_after_three_failed_health_checks => "worker-unhealthy",
    worker_over_its_memory_limit_is_reported_as_oom => "worker-out-of-memory",
    crash_looped_worker_waits_for_a_reset => "crash-loop",
    slow_load_with_progress_is_not_killed => "load-slow",
    load_without_progress_is_killed => "load-stalled",
    worker_of_a_truncated_model_fails_permanently => "model-truncated",
    worker_of_a_corrupt_model_fails_permanently => "model-corrupt",
    port_used_by_another_program_is_skipped => "port-foreign",
    lease_of_an_unknown_worker_is_reclaimed => "lease-leaked",
    second_lease_of_a_worker_is_reclaimed => "lease-stray",
    workers_of_a_killed_hive_are_adopted_without_interruption => "hive-killed",
    hive_killed_ten_times_leaks_nothing => "hive-killed-ten-times",
    hive_killed_while_starting_workers_leaves_no_partial_state => "hive-killed-while-spawning",
    worker_that_died_while_its_hive_was_down_is_restarted => "hive-and-worker-killed",
    process_of_a_run_missing_from_the_ledger_is_killed => "hive-killed-after-spawn",
    leases_missing_from_the_ledger_are_released => "hive-killed-after-lease",
    frozen_hive_kills_no_worker_for_heartbeats_it_missed => "hive-frozen",
    same_hive_does_not_start_twice => "hive-started-twice",
    hive_does_not_start_with_a_name_in_use => "hive-name-taken",
    worker_ignoring_sigterm_is_killed_with_its_children => "worker-ignores-sigterm",
    hive_of_fifty_workers_stops_in_time_and_leaves_nothing => "fifty-stopped",
    each_of_a_thousand_spawns_is_answered_without_port_conflicts => "thousand-spawns",
    hive_without_its_bus_keeps_its_workers => "bus-killed",
    full_disk_refuses_a_spawn_and_affects_no_running_worker => "disk-full",
    process_with_a_reused_worker_pid_is_not_signalled => "number-reused",
    disconnected_machine_is_replaced_and_returns_without_duplicates => "machine-cut-off",
    jobs_of_a_dead_machine_continue_elsewhere_at_once => "machine-died",
    frozen_hive_is_replaced_and_its_workers_keep_serving => "machine-hive-frozen",
    two_machines_replace_one_disconnected_with_its_broker => "machine-with-broker-cut-off",
}

/// A short run with another seed each time. `make chaos CHAOS="--random --seed N"` repeats it with more jobs.
#[tokio::test]
async fn random_faults_lose_double_and_change_no_answer() {
    let seed = fastrand::u64(..1 << 32);
    eprintln!("random faults with seed {seed}");
    let survived =
        RandomFaults { seed, jobs: 80, model: RandomModel::Mock, pause: Duration::from_millis(500) }.run().await;
    eprintln!("seed {seed}: {survived:?}");
    assert!(!survived.faults.is_empty(), "nothing was injected");
}

async fn holds(name: &str) {
    let fault = fault(name);
    match fault.impossible() {
        Some(why) => eprintln!("{name} cannot be injected on this machine: {why}"),
        None => {
            fault.run().await;
        }
    }
}
