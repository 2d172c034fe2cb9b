use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use proptest::prelude::*;
use rbee_schema::{JobClass, JobFlow};

use super::{Delivered, Dispatcher, Effect, Ended, Event, Rules};

#[path = "tenants/tests.rs"]
mod tenants;

const TURN: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);
const FETCH: Duration = Duration::from_millis(50);

fn flow(class: JobClass, tenant: &str) -> JobFlow {
    JobFlow { class, tenant: tenant.parse().expect("a name") }
}

fn interactive(tenant: &str) -> JobFlow {
    flow(JobClass::Interactive, tenant)
}

fn batch(tenant: &str) -> JobFlow {
    flow(JobClass::Batch, tenant)
}

fn late(job: u64, flow: &JobFlow) -> Event {
    Event::Late(Delivered { job, flow: flow.clone(), waiting: 0 })
}

/// A dispatcher with a server whose queues hold `queued` jobs.
struct Worker {
    dispatcher: Dispatcher,
    now: Instant,
    queued: BTreeMap<JobFlow, u64>,
    standing: BTreeSet<JobFlow>,
    /// Flows of which the server delivers no job while so many are out.
    limits: BTreeMap<JobFlow, usize>,
    /// Jobs that were delivered and have not ended.
    out: BTreeMap<u64, JobFlow>,
    running: BTreeMap<u64, JobFlow>,
    paused: Vec<u64>,
    returned: Vec<u64>,
    next: u64,
    /// Flows of all deliveries.
    delivered: BTreeMap<u64, JobFlow>,
    /// Flows of the started jobs, in order.
    order: Vec<JobFlow>,
}

impl Worker {
    fn new(slots: u32) -> Self {
        let now = Instant::now();
        let rules = Rules {
            slots,
            batch_share: 10,
            batch_turn: TURN,
            standing: Duration::from_secs(300),
            limited_fetch: FETCH,
        };
        let mut worker = Self {
            dispatcher: Dispatcher::new(rules, now),
            now,
            queued: BTreeMap::new(),
            standing: BTreeSet::new(),
            limits: BTreeMap::new(),
            out: BTreeMap::new(),
            running: BTreeMap::new(),
            paused: Vec::new(),
            returned: Vec::new(),
            next: 0,
            delivered: BTreeMap::new(),
            order: Vec::new(),
        };
        worker.step(Event::Tick);
        worker
    }

    fn step(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            if let Event::Fetched(delivered) | Event::Stood(delivered) | Event::Late(delivered) = &event {
                self.delivered.insert(delivered.job, delivered.flow.clone());
            }
            if let Event::Ended(ended) = &event {
                self.out.remove(&ended.job);
            }
            for effect in self.dispatcher.step(event, self.now) {
                match effect {
                    Effect::Fetch(flow) => events.push(self.fetched(flow)),
                    Effect::Stand(flow) | Effect::StandToPreempt(flow) => {
                        self.standing.insert(flow.clone());
                        events.extend(self.stood(&flow));
                    }
                    Effect::Withdraw => self.standing.clear(),
                    Effect::List => {}
                    Effect::Start(job) => {
                        let flow = self.delivered[&job].clone();
                        self.order.push(flow.clone());
                        self.running.insert(job, flow);
                    }
                    Effect::Pause(job) => self.paused.push(job),
                    Effect::Return(job) => {
                        self.out.remove(&job);
                        self.returned.push(job);
                        *self.queued.entry(self.delivered[&job].clone()).or_default() += 1;
                    }
                }
            }
        }
    }

    fn is_at_its_limit(&self, flow: &JobFlow) -> bool {
        let out = self.out.values().filter(|out| *out == flow).count();
        self.limits.get(flow).is_some_and(|limit| out >= *limit)
    }

    fn take(&mut self, flow: &JobFlow) -> Option<(u64, u64)> {
        let queued = self.queued.get_mut(flow).filter(|queued| **queued > 0)?;
        *queued -= 1;
        let waiting = *queued;
        self.next += 1;
        self.out.insert(self.next, flow.clone());
        Some((self.next, waiting))
    }

    fn fetched(&mut self, flow: JobFlow) -> Event {
        if self.is_at_its_limit(&flow) {
            self.now += FETCH;
            return Event::Empty(flow);
        }
        match self.take(&flow) {
            Some((job, waiting)) => Event::Fetched(Delivered { job, flow, waiting }),
            None => Event::Empty(flow),
        }
    }

    fn stood(&mut self, flow: &JobFlow) -> Option<Event> {
        if self.is_at_its_limit(flow) {
            return None;
        }
        let (job, waiting) = self.take(flow)?;
        self.standing.remove(flow);
        Some(Event::Stood(Delivered { job, flow: flow.clone(), waiting }))
    }

    /// Stores jobs.
    fn submit(&mut self, flow: &JobFlow, jobs: u64) {
        for _ in 0..jobs {
            *self.queued.entry(flow.clone()).or_default() += 1;
            self.step(Event::Queued(flow.clone()));
            if self.standing.contains(flow)
                && let Some(stood) = self.stood(flow)
            {
                self.step(stood);
            }
        }
    }

    /// Ends the job that has run longest.
    fn end(&mut self, tokens: u64) -> JobFlow {
        let (job, flow) = self.running.pop_first().expect("a job runs");
        self.step(Event::Ended(Ended { job, tokens, returned: false }));
        flow
    }

    /// Ends a batch job that was told to pause.
    fn pause(&mut self) {
        let job = self.paused.pop().expect("a job is told to pause");
        let flow = self.running.remove(&job).expect("it runs");
        *self.queued.entry(flow).or_default() += 1;
        self.step(Event::Ended(Ended { job, tokens: 1, returned: true }));
    }
}

#[test]
fn idle_worker_waits_with_one_pull_per_flow_and_sends_no_more() {
    let worker = Worker::new(8);
    assert_eq!(worker.standing, [interactive("default"), batch("default")].into());
    let due = worker.dispatcher.due(worker.now).expect("a renewal");
    assert!(due >= worker.now + Duration::from_secs(300), "nothing is sent for minutes");
}

#[test]
fn full_worker_withdraws_its_pulls_soon_and_a_free_one_renews_them() {
    let mut worker = Worker::new(1);
    worker.submit(&interactive("default"), 1);
    assert_eq!(worker.standing, [batch("default")].into(), "a short job leaves the other pull as it is");
    worker.submit(&batch("default"), 1);
    assert_eq!(worker.returned.len(), 1, "what comes meanwhile is for another worker");
    worker.now = worker.dispatcher.due(worker.now).expect("the withdrawal is due");
    worker.step(Event::Tick);
    assert_eq!(worker.standing, BTreeSet::new());
    worker.end(1);
    worker.end(1);
    assert_eq!(worker.standing.len(), 2);
}

#[test]
fn burst_at_an_idle_worker_brings_no_job_too_many() {
    let mut worker = Worker::new(3);
    worker.queued.insert(interactive("default"), 10);
    let stood = worker.stood(&interactive("default")).expect("a job waits");
    worker.step(stood);
    assert_eq!((worker.running.len(), worker.returned.len()), (3, 0));
}

#[test]
fn free_slots_run_batch_jobs_at_once() {
    let mut worker = Worker::new(2);
    worker.submit(&batch("default"), 40);
    for _ in 0..40 {
        worker.end(1);
    }
    assert_eq!((worker.order.len(), worker.running.len()), (40, 0));
}

#[test]
fn interactive_jobs_run_before_waiting_batch_jobs() {
    let mut worker = Worker::new(1);
    worker.submit(&interactive("default"), 1);
    worker.submit(&batch("default"), 2);
    worker.submit(&interactive("default"), 2);
    while !worker.running.is_empty() {
        worker.end(1);
    }
    let classes: Vec<JobClass> = worker.order.iter().map(|flow| flow.class).collect();
    use JobClass::{Batch, Interactive};
    assert_eq!(classes, [Interactive, Interactive, Interactive, Batch, Batch]);
}

#[test]
fn one_of_ten_jobs_is_a_batch_job_while_both_classes_wait() {
    let mut worker = Worker::new(1);
    worker.submit(&interactive("default"), 100);
    worker.submit(&batch("default"), 100);
    for _ in 0..50 {
        worker.end(1);
    }
    let batches = worker.order.iter().filter(|flow| flow.class == JobClass::Batch).count();
    assert_eq!(batches, 5);
}

#[test]
fn tenant_behind_a_crowd_is_served_next() {
    let mut worker = Worker::new(4);
    worker.submit(&interactive("crowd"), 10_000);
    for _ in 0..10 {
        worker.end(100);
    }
    worker.submit(&interactive("single"), 1);
    worker.end(100);
    assert_eq!(worker.order.last(), Some(&interactive("single")));
}

#[test]
fn tenants_are_served_equally_many_tokens() {
    let mut worker = Worker::new(1);
    worker.submit(&interactive("long"), 1000);
    worker.submit(&interactive("short"), 1000);
    let mut served = BTreeMap::new();
    for _ in 0..440 {
        let running = worker.running.values().next().expect("a job runs").clone();
        let tokens = if running == interactive("long") { 100 } else { 10 };
        *served.entry(running).or_insert(0) += tokens;
        worker.end(tokens);
    }
    let (long, short) = (served[&interactive("long")], served[&interactive("short")]);
    assert!(long.abs_diff(short) <= 400, "{long} and {short} tokens");
}

#[test]
fn tenant_without_jobs_saves_up_no_service() {
    let mut worker = Worker::new(1);
    worker.submit(&interactive("late"), 1);
    worker.end(1);
    worker.submit(&interactive("busy"), 100);
    for _ in 0..50 {
        worker.end(100);
    }
    worker.submit(&interactive("late"), 50);
    worker.order.clear();
    for _ in 0..20 {
        worker.end(100);
    }
    let late = worker.order.iter().filter(|flow| **flow == interactive("late")).count();
    assert!((9..=11).contains(&late), "{late} of 20");
}

#[test]
fn returned_job_of_another_worker_is_found_behind_a_crowd() {
    let mut worker = Worker::new(1);
    worker.submit(&interactive("other"), 1);
    worker.end(1);
    worker.submit(&interactive("crowd"), 100);
    worker.now = worker.dispatcher.due(worker.now).expect("the withdrawal of the pulls is due");
    worker.step(Event::Tick);
    // A job returns to the queue, for which there is no notice.
    worker.queued.insert(interactive("other"), 1);
    worker.now += SECOND;
    worker.end(100);
    assert_eq!(worker.order.last(), Some(&interactive("other")));
}

#[test]
fn interactive_job_takes_the_slot_of_the_batch_job_started_last() {
    let mut worker = Worker::new(2);
    worker.submit(&batch("default"), 1);
    worker.now += SECOND;
    worker.submit(&batch("default"), 1);
    worker.submit(&batch("default"), 5);
    worker.submit(&interactive("default"), 1);
    assert_eq!(worker.paused, [2]);
    worker.pause();
    assert_eq!(worker.running.len(), 2);
    assert_eq!(worker.order.last(), Some(&interactive("default")));
    assert!(worker.returned.is_empty());
}

#[test]
fn batch_job_is_not_paused_during_its_turn() {
    let mut worker = Worker::new(1);
    worker.submit(&interactive("default"), 30);
    worker.submit(&batch("default"), 5);
    while worker.running.values().next().expect("a job runs").class == JobClass::Interactive {
        worker.end(1);
    }
    assert_eq!((&worker.paused, worker.standing.len()), (&vec![], 0));
    worker.now += TURN;
    worker.step(Event::Tick);
    assert_eq!(worker.paused.len(), 1, "an interactive job waits");
}

#[test]
fn job_without_a_slot_returns_to_the_queue() {
    let mut worker = Worker::new(1);
    worker.submit(&interactive("default"), 1);
    worker.step(late(7, &interactive("default")));
    assert_eq!(worker.returned, [7]);
}

#[test]
fn held_job_returns_if_no_slot_becomes_free() {
    let mut worker = Worker::new(1);
    worker.submit(&batch("default"), 1);
    worker.submit(&interactive("default"), 1);
    let due = worker.dispatcher.due(worker.now).expect("a limit");
    assert!(due <= worker.now + SECOND);
    worker.now = due;
    worker.step(Event::Tick);
    assert_eq!(worker.returned, [2]);
}

#[test]
fn draining_worker_pulls_nothing_and_returns_what_comes() {
    let mut worker = Worker::new(2);
    worker.submit(&interactive("default"), 1);
    worker.step(Event::Drain);
    assert_eq!(worker.standing, BTreeSet::new());
    worker.step(late(7, &interactive("default")));
    worker.submit(&interactive("default"), 1);
    assert_eq!((worker.returned, worker.running.len()), (vec![7], 1));
}

#[test]
fn failed_pull_is_repeated_after_a_pause() {
    let mut worker = Worker::new(1);
    worker.standing.clear();
    worker.step(Event::StandingFailed(interactive("default")));
    assert_eq!(worker.standing, BTreeSet::new());
    worker.now = worker.dispatcher.due(worker.now).expect("a retry");
    worker.step(Event::Tick);
    assert_eq!(worker.standing, [interactive("default")].into());
}

#[test]
fn standing_pull_without_an_answer_is_renewed() {
    let mut worker = Worker::new(1);
    worker.standing.clear();
    worker.now += Duration::from_secs(300);
    worker.step(Event::Tick);
    assert_eq!(worker.standing.len(), 2);
}

#[test]
fn flows_of_a_listing_are_served_and_forgotten_when_idle() {
    let mut worker = Worker::new(1);
    worker.queued.insert(batch("acme"), 1);
    worker.step(Event::Listed(vec![(batch("acme"), 1)]));
    assert_eq!(worker.order, [batch("acme")]);
    worker.end(1);
    assert!(worker.standing.contains(&batch("acme")));
    worker.now += Duration::from_secs(601);
    worker.step(Event::Listed(Vec::new()));
    worker.step(Event::Reset);
    worker.standing.clear();
    worker.step(Event::Reset);
    assert_eq!(worker.standing, [interactive("default"), batch("default")].into());
}

#[test]
fn many_tenants_get_a_bounded_number_of_standing_pulls() {
    let mut worker = Worker::new(1);
    let many: Vec<_> = (0..5000).map(|number| (interactive(&format!("t{number}")), 0)).collect();
    worker.step(Event::Listed(many));
    assert_eq!(worker.standing.len(), 64);
    assert!(worker.standing.contains(&interactive("default")));
}

#[derive(Debug, Clone)]
enum Action {
    Submit(JobFlow),
    End,
    Pause,
    Late(JobFlow),
    Wait,
}

fn action() -> impl Strategy<Value = Action> {
    let flows = || {
        (prop_oneof![Just(JobClass::Interactive), Just(JobClass::Batch)], "[ab]")
            .prop_map(|(class, tenant)| flow(class, &tenant))
    };
    prop_oneof![
        4 => flows().prop_map(Action::Submit),
        3 => Just(Action::End),
        2 => Just(Action::Pause),
        1 => flows().prop_map(Action::Late),
        1 => Just(Action::Wait),
    ]
}

proptest! {
    #[test]
    fn slots_are_never_exceeded_and_no_job_is_left_behind(
        slots in 1_u32..4, actions in proptest::collection::vec(action(), 1..60)
    ) {
        let mut worker = Worker::new(slots);
        for action in actions {
            match action {
                Action::Submit(flow) => worker.submit(&flow, 1),
                Action::End if !worker.running.is_empty() => drop(worker.end(5)),
                Action::Pause if !worker.paused.is_empty() => {
                    let job = *worker.paused.last().expect("one");
                    if worker.running.contains_key(&job) { worker.pause() } else { worker.paused.clear() }
                }
                Action::Late(flow) => {
                    worker.next += 1;
                    worker.step(late(worker.next, &flow));
                }
                Action::Wait => {
                    worker.now += SECOND;
                    worker.step(Event::Tick);
                }
                Action::End | Action::Pause => {}
            }
            prop_assert!(worker.running.len() <= slots as usize);
        }
        for _ in 0..1000 {
            if worker.running.is_empty() {
                break;
            }
            worker.end(5);
            worker.now += SECOND;
            worker.step(Event::Tick);
        }
        prop_assert!(worker.queued.values().all(|queued| *queued == 0), "{:?} wait", worker.queued);
    }
}

#[test]
fn worker_takes_nothing_while_a_job_runs_alone() {
    let mut worker = Worker::new(4);
    worker.submit(&interactive("default"), 1);
    worker.step(Event::Closed);
    assert_eq!(worker.standing, BTreeSet::new());
    worker.submit(&interactive("default"), 2);
    worker.delivered.insert(99, interactive("default"));
    worker.step(late(99, &interactive("default")));
    assert_eq!((worker.running.len(), worker.returned.as_slice()), (1, [99].as_slice()));
    worker.step(Event::Opened);
    assert_eq!(worker.running.len(), 4, "those that waited meanwhile, and the one that was returned");
}
