//! Simulations of a whole fleet: fixed seeds, one fresh seed, and deliberate mistakes that must be found.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rbee_sim::{Flaws, Outcome, Scenario, run};

/// Virtual time in which faults are injected.
const DURATION: Duration = Duration::from_secs(10 * 60);

/// Seeds that every run of the tests simulates.
const FIXED: std::ops::Range<u64> = 0..16;

/// Seeds that found a mistake once, each with the mistake. They are simulated for an hour.
const KEPT: [(u64, &str); 0] = [];

/// Fails with the last steps of a simulation that broke a rule.
fn check(scenario: &Scenario) -> Outcome {
    let outcome = run(scenario, false);
    if let Some(failure) = &outcome.failure {
        let log = run(scenario, true).log.join("\n");
        let minutes = scenario.duration.as_secs() / 60;
        panic!(
            "{log}\n{scenario:?}\n{failure}\nreplay: make sim SIM=\"--seed {} --minutes {minutes} --queens {}\"",
            outcome.seed, scenario.queens
        );
    }
    outcome
}

#[test]
fn fixed_seeds_keep_every_rule() {
    let outcomes: Vec<Outcome> = FIXED.map(|seed| check(&Scenario::draw(seed, DURATION))).collect();
    let sum = |count: fn(&Outcome) -> u64| outcomes.iter().map(count).sum::<u64>();
    let (jobs, ends) = (sum(|outcome| outcome.counts.answered), sum(|outcome| outcome.counts.ends));
    assert!(jobs > 500 && ends > 20, "{jobs} jobs and {ends} ends of workers are too few to show anything");
}

#[test]
fn fixed_seeds_with_queens_keep_every_rule() {
    for seed in 0..8 {
        check(&Scenario::draw(seed, DURATION).with_queens(1 + u32::from(seed % 2 == 1)));
    }
}

#[test]
fn fresh_seed_keeps_every_rule() {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let seed = since.as_nanos() as u64;
    println!("seed {seed}");
    check(&Scenario::draw(seed, DURATION));
}

#[test]
fn seeds_that_found_a_mistake_keep_every_rule() {
    for (seed, _) in KEPT {
        check(&Scenario::draw(seed, Duration::from_secs(60 * 60)));
    }
}

#[test]
fn seed_replays_exactly() {
    let scenario = Scenario::draw(7, DURATION);
    let (one, other) = (run(&scenario, false), run(&scenario, true));
    assert_eq!((one.fingerprint, one.steps, one.counts), (other.fingerprint, other.steps, other.counts));
}

#[test]
fn tenants_and_classes_get_their_shares_of_a_backlog() {
    for seed in 0..6 {
        check(&Scenario::backlog(seed));
    }
}

/// Searches for a seed that finds one of these rules broken with the flaws. A mistake may break other rules first.
fn find(flaws: Flaws, rules: &[&str]) {
    let mut failures =
        (0..40).filter_map(|seed| run(&Scenario { flaws, ..Scenario::draw(seed, DURATION) }, false).failure);
    let is_found = failures.any(|failure| rules.iter().any(|rule| failure.contains(rule)));
    assert!(is_found, "the mistake is found within a few seeds");
}

#[test]
fn simulation_finds_the_double_answer_without_the_fence() {
    find(Flaws { no_fence: true, ..Flaws::default() }, &["attempt", "gap", "behind the end"]);
}

#[test]
fn simulation_finds_a_job_that_is_returned_too_late() {
    find(Flaws { late_naks: true, ..Flaws::default() }, &["is taken from"]);
}

#[test]
fn simulation_finds_a_delivery_that_is_returned_twice() {
    find(Flaws { naks_twice: true, ..Flaws::default() }, &["is taken from"]);
}

#[test]
fn simulation_finds_blame_for_a_killed_worker() {
    find(Flaws { blames_always: true, ..Flaws::default() }, &["which no job has caused"]);
}

#[test]
fn simulation_finds_a_job_that_is_acknowledged_too_early() {
    find(Flaws { acknowledges_first: true, ..Flaws::default() }, &["without an end"]);
}

#[test]
fn simulation_finds_a_worker_with_more_jobs_than_slots() {
    find(Flaws { ignores_slots: true, ..Flaws::default() }, &["slots"]);
}

#[test]
fn simulation_finds_a_lost_cancellation() {
    find(Flaws { ignores_stored_cancels: true, ..Flaws::default() }, &["do not end"]);
}
