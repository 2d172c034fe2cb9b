//! Weights, throttles and limits of running jobs.

use proptest::prelude::*;
use rbee_schema::{Tenant, TenantSpec, TenantSpecs};

use super::*;

fn tenant(name: &str) -> Tenant {
    name.parse().expect("a name")
}

fn weights(weights: &[(&str, &str)]) -> Event {
    let spec = |weight: &str| TenantSpec { weight: weight.parse().expect("a weight"), ..TenantSpec::default() };
    Event::Specs(weights.iter().map(|(name, weight)| (tenant(name), spec(weight))).collect())
}

fn max_running(name: &str, limit: u32) -> Event {
    let spec = TenantSpec { max_running: Some(limit), ..TenantSpec::default() };
    Event::Specs(TenantSpecs::from_iter([(tenant(name), spec)]))
}

/// Tokens that two tenants with waiting jobs are served, by the weights of both and the sizes of their jobs.
fn served(weights_of: [&str; 2], sizes: [u64; 2], jobs: usize) -> [u64; 2] {
    let mut worker = Worker::new(1);
    worker.step(weights(&[("a", weights_of[0]), ("b", weights_of[1])]));
    for name in ["a", "b"] {
        worker.submit(&interactive(name), 10_000);
    }
    let mut served = [0, 0];
    for _ in 0..jobs {
        let running = worker.running.values().next().expect("a job runs").clone();
        let which = usize::from(running == interactive("b"));
        served[which] += sizes[which];
        worker.end(sizes[which]);
    }
    served
}

#[test]
fn tokens_are_shared_by_weight() {
    for (weights, sizes, ratio) in [
        (["3", "1"], [10, 10], 3.0),
        (["3", "1"], [100, 10], 3.0),
        (["3", "1"], [10, 100], 3.0),
        (["1", "4"], [10, 10], 0.25),
        (["0.5", "1"], [10, 10], 0.5),
        (["1", "1"], [10, 10], 1.0),
    ] {
        let [a, b] = served(weights, sizes, 4_000);
        let found = a as f64 / b as f64;
        assert!((found / ratio - 1.0).abs() < 0.1, "{weights:?} {sizes:?}: {a} and {b} tokens");
    }
}

#[test]
fn weight_changes_at_once() {
    let mut worker = Worker::new(1);
    for name in ["a", "b"] {
        worker.submit(&interactive(name), 1_000);
    }
    let mut share = |event: Event| {
        worker.step(event);
        worker.order.clear();
        for _ in 0..80 {
            worker.end(10);
        }
        worker.order.iter().filter(|flow| **flow == interactive("a")).count()
    };
    let shares = [share(weights(&[])), share(weights(&[("a", "3")])), share(weights(&[("b", "3")]))];
    assert!(shares[0].abs_diff(40) <= 2 && shares[1].abs_diff(60) <= 4 && shares[2].abs_diff(20) <= 4, "{shares:?}");
}

#[test]
fn throttled_tenant_waits_until_its_time_and_others_run() {
    let mut worker = Worker::new(1);
    worker.step(Event::Throttled(tenant("a"), worker.now + 10 * SECOND));
    worker.submit(&interactive("a"), 5);
    worker.submit(&batch("a"), 5);
    assert!(worker.running.is_empty());
    worker.submit(&interactive("b"), 2);
    worker.end(1);
    worker.end(1);
    assert_eq!(worker.order, [interactive("b"), interactive("b")]);
    let due = worker.dispatcher.due(worker.now).expect("the end of the throttle");
    assert_eq!(due, worker.now + 10 * SECOND);
    worker.now = due;
    worker.step(Event::Tick);
    assert_eq!(worker.running.values().collect::<Vec<_>>(), [&interactive("a")]);
}

#[test]
fn released_tenant_runs_at_once() {
    let mut worker = Worker::new(1);
    worker.step(Event::Throttled(tenant("a"), worker.now + 10 * SECOND));
    worker.submit(&interactive("a"), 1);
    worker.step(Event::Released(tenant("a")));
    assert_eq!(worker.running.len(), 1);
}

#[test]
fn all_throttles_are_replaced_after_an_interruption() {
    let mut worker = Worker::new(2);
    worker.step(Event::Throttled(tenant("a"), worker.now + 10 * SECOND));
    worker.submit(&interactive("a"), 1);
    worker.step(Event::Throttles(vec![(tenant("b"), worker.now + 10 * SECOND)]));
    worker.submit(&interactive("b"), 1);
    assert_eq!(worker.running.values().collect::<Vec<_>>(), [&interactive("a")]);
}

#[test]
fn throttle_withdraws_the_standing_pulls_of_the_tenant_alone() {
    let mut worker = Worker::new(1);
    for name in ["a", "b"] {
        worker.submit(&interactive(name), 1);
        worker.end(1);
    }
    assert!(worker.standing.contains(&interactive("a")));
    worker.step(Event::Throttled(tenant("a"), worker.now + 10 * SECOND));
    assert!(!worker.standing.contains(&interactive("a")) && worker.standing.contains(&interactive("b")));
    worker.now += 10 * SECOND;
    worker.step(Event::Tick);
    assert!(worker.standing.contains(&interactive("a")), "{:?}", worker.standing);
}

#[test]
fn job_of_a_throttled_tenant_that_was_under_way_returns() {
    let mut worker = Worker::new(1);
    worker.step(Event::Throttled(tenant("a"), worker.now + 10 * SECOND));
    worker.delivered.insert(7, interactive("a"));
    worker.step(late(7, &interactive("a")));
    assert_eq!((worker.returned.as_slice(), worker.running.len()), ([7].as_slice(), 0));
}

#[test]
fn running_jobs_of_a_throttled_tenant_run_on() {
    let mut worker = Worker::new(1);
    worker.submit(&batch("a"), 1);
    worker.step(Event::Throttled(tenant("a"), worker.now + 10 * SECOND));
    assert_eq!((worker.running.len(), worker.paused.len()), (1, 0));
}

#[test]
fn throttled_tenant_saves_up_no_service() {
    let mut worker = Worker::new(1);
    for name in ["a", "b"] {
        worker.submit(&interactive(name), 1_000);
    }
    worker.step(Event::Throttled(tenant("a"), worker.now + 10 * SECOND));
    for _ in 0..100 {
        worker.end(10);
    }
    worker.now += 10 * SECOND;
    worker.step(Event::Tick);
    worker.order.clear();
    for _ in 0..40 {
        worker.end(10);
    }
    let a = worker.order.iter().filter(|flow| **flow == interactive("a")).count();
    assert!((18..=22).contains(&a), "{a} of 40");
}

#[test]
fn tenant_runs_no_more_jobs_than_its_limit_in_one_worker() {
    let mut worker = Worker::new(4);
    worker.step(max_running("a", 2));
    worker.limits.insert(interactive("a"), 2);
    worker.queued.insert(interactive("a"), 10);
    let began = worker.now;
    worker.step(Event::Listed(vec![(interactive("a"), 10)]));
    assert_eq!((worker.running.len(), worker.now), (2, began), "the others are not even fetched");
    worker.submit(&interactive("b"), 2);
    assert_eq!(worker.running.len(), 4);
    worker.limits.insert(interactive("a"), 3);
    worker.step(max_running("a", 3));
    let found = worker.running.iter().find(|(_, flow)| **flow == interactive("b"));
    let job = *found.expect("a job of b runs").0;
    worker.running.remove(&job);
    worker.step(Event::Ended(Ended { job, tokens: 1, returned: false }));
    assert_eq!(worker.order.last(), Some(&interactive("a")));
}

#[test]
fn flow_at_its_limit_is_asked_again_when_a_job_of_it_ends_here() {
    let mut worker = Worker::new(2);
    worker.step(max_running("a", 5));
    worker.submit(&interactive("a"), 1);
    // Other workers run the other four: the server keeps a fetch for a while and then ends it.
    worker.limits.insert(interactive("a"), 1);
    worker.submit(&interactive("a"), 5);
    worker.submit(&interactive("crowd"), 100);
    worker.now = worker.dispatcher.due(worker.now).expect("the withdrawal of the pulls is due");
    worker.step(Event::Tick);
    let end = |worker: &mut Worker, flow: &JobFlow, tokens: u64| {
        let found = worker.running.iter().find(|(_, running)| *running == flow);
        let job = *found.expect("a job of the flow runs").0;
        worker.running.remove(&job);
        worker.step(Event::Ended(Ended { job, tokens, returned: false }));
    };
    let began = worker.now;
    end(&mut worker, &interactive("crowd"), 100);
    assert_eq!(worker.now, began + FETCH, "the flow was asked");
    end(&mut worker, &interactive("crowd"), 100);
    assert_eq!(worker.now, began + FETCH, "and is not asked again at once");
    worker.limits.clear();
    end(&mut worker, &interactive("a"), 1);
    assert_eq!(worker.order.last(), Some(&interactive("a")));
}

proptest! {
    #[test]
    fn no_job_of_a_throttled_tenant_starts_and_none_is_left_behind(
        slots in 1_u32..4, actions in proptest::collection::vec((0_u8..5, "[ab]"), 1..60)
    ) {
        let mut worker = Worker::new(slots);
        let mut throttled: BTreeMap<Tenant, Instant> = BTreeMap::new();
        for (action, name) in actions {
            let name = tenant(&name);
            let before = worker.order.len();
            match action {
                0 | 1 => worker.submit(&flow(JobClass::Interactive, name.as_str()), 1),
                2 if !worker.running.is_empty() => drop(worker.end(5)),
                3 => {
                    let until = worker.now + 2 * SECOND;
                    throttled.insert(name.clone(), until);
                    worker.step(Event::Throttled(name, until));
                }
                _ => {
                    worker.now += SECOND;
                    worker.step(Event::Tick);
                }
            }
            throttled.retain(|_, until| *until > worker.now);
            let started = &worker.order[before..];
            prop_assert!(started.iter().all(|flow| !throttled.contains_key(&flow.tenant)), "{started:?}");
        }
        for _ in 0..1000 {
            worker.now += SECOND;
            worker.step(Event::Tick);
            if !worker.running.is_empty() {
                worker.end(5);
            }
        }
        prop_assert!(worker.queued.values().all(|queued| *queued == 0), "{:?} wait", worker.queued);
    }
}
