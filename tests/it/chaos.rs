//! Every fault of `rbee_tests::chaos`, injected once: the outcome is right, and so is the whole fleet after it. How long
//! each takes is measured by `make chaos`; nothing here depends on it.

use rbee_tests::chaos::{FAULTS, fault};

/// A rule for each fault, by the fault's name.
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
    the_answer_of_a_killed_worker_goes_on_elsewhere => "worker-killed",
    a_frozen_worker_is_suspect_at_once_and_killed_when_it_stays_silent => "worker-frozen",
    an_adopted_worker_that_freezes_is_found_by_its_silence => "adopted-worker-frozen",
    what_a_thawed_worker_appends_to_the_job_of_another_is_refused => "zombie-thawed",
    a_worker_that_beats_and_makes_no_step_is_killed => "worker-hangs",
    a_worker_that_fails_three_health_checks_is_killed => "worker-unhealthy",
    a_worker_beyond_its_memory_limit_is_told_as_such_and_hurts_nobody_else => "worker-out-of-memory",
    a_worker_that_loops_waits_until_it_is_reset => "crash-loop",
    a_slow_load_that_moves_is_not_killed => "load-slow",
    a_load_that_stands_still_is_killed => "load-stalled",
    a_worker_of_a_truncated_model_fails_for_good => "model-truncated",
    a_worker_of_a_corrupt_model_fails_for_good => "model-corrupt",
    a_port_that_a_stranger_holds_is_passed_over => "port-foreign",
    a_lease_for_nobody_is_reclaimed => "lease-leaked",
    a_second_lease_of_a_worker_is_reclaimed => "lease-stray",
    the_workers_of_a_killed_hive_are_adopted_and_their_answers_do_not_notice => "hive-killed",
    a_hive_that_is_killed_again_and_again_leaks_nothing => "hive-killed-ten-times",
    a_hive_that_is_killed_while_it_starts_workers_leaves_nothing_half_made => "hive-killed-while-spawning",
    a_worker_that_died_while_its_hive_was_away_is_buried_and_started_again => "hive-and-worker-killed",
    a_process_that_no_page_of_the_ledger_knows_is_killed => "hive-killed-after-spawn",
    leases_that_no_page_of_the_ledger_knows_are_released => "hive-killed-after-lease",
    no_worker_is_killed_for_the_silence_that_a_frozen_hive_heard => "hive-frozen",
    the_same_hive_does_not_start_twice => "hive-started-twice",
    a_name_that_a_hive_has_is_not_taken_by_another => "hive-name-taken",
    a_worker_that_ignores_sigterm_is_killed_with_its_children => "worker-ignores-sigterm",
    a_hive_of_fifty_workers_ends_in_time_and_leaves_nothing => "fifty-stopped",
    a_thousand_spawns_are_each_answered_and_no_port_is_given_twice => "thousand-spawns",
    a_hive_without_its_bus_keeps_its_workers => "bus-killed",
    a_full_disk_refuses_a_spawn_and_touches_nothing_that_runs => "disk-full",
    a_stranger_with_the_number_of_a_worker_is_not_touched => "number-reused",
    a_machine_that_is_cut_off_is_replaced_and_comes_back_without_duplicates => "machine-cut-off",
    a_machine_that_dies_is_replaced_and_its_jobs_go_on_elsewhere_at_once => "machine-died",
    a_hive_that_freezes_is_replaced_and_its_workers_serve_on => "machine-hive-frozen",
    a_machine_that_is_cut_off_with_its_broker_is_replaced_by_the_other_two => "machine-with-broker-cut-off",
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
