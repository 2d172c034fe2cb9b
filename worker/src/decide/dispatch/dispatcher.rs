//! The dispatcher: from what happens to what is to be done.

use std::time::{Duration, Instant};

use rbee_schema::{JobClass, JobFlow, Tenant, TenantSpecs};

use super::{flows::Flows, slots::Slots};

/// Interval of listings. A notice may be lost, and flows without jobs are forgotten.
const LISTING: Duration = Duration::from_secs(10 * 60);

/// Interval of listings while some flows have no standing pull because there are too many.
const SEARCH: Duration = Duration::from_secs(10);

/// Time for which the standing pulls of a full worker stay. A short job leaves them as they are, which saves the server half of
/// the requests. A job that comes meanwhile returns to the queue at once.
const LINGERING: Duration = Duration::from_millis(10);

/// Each job adds this share of its tokens to the expected size of the next one.
const WEIGHT_OF_ONE: u64 = 8;

/// Rules of dispatch.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Number of slots.
    pub slots: u32,
    /// One of so many jobs is a batch job while jobs of both classes wait. Zero for none.
    pub batch_share: u32,
    /// Time for which such a batch job is not paused.
    pub batch_turn: Duration,
    /// Time after which a standing pull is renewed although the server did not end it.
    pub standing: Duration,
    /// Time for which the server keeps a fetch of a tenant that runs as many jobs as it may.
    pub limited_fetch: Duration,
}

/// Delivered job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// Number that the caller gives the delivery.
    pub job: u64,
    /// Flow of the job.
    pub flow: JobFlow,
    /// Number of further jobs of the flow that waited when this one was sent.
    pub waiting: u64,
}

/// End of a job's run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Number of the delivery.
    pub job: u64,
    /// Tokens that were computed.
    pub tokens: u64,
    /// True if the job has returned to the queue.
    pub returned: bool,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A job of the flow was stored.
    Queued(JobFlow),
    /// Flows with waiting and running jobs, and the number of these jobs.
    Listed(Vec<(JobFlow, u64)>),
    /// A fetch delivered a job.
    Fetched(Delivered),
    /// A standing pull delivered a job.
    Stood(Delivered),
    /// A pull that was withdrawn delivered a job.
    Late(Delivered),
    /// A fetch found no job.
    Empty(JobFlow),
    /// A standing pull ended without a job.
    Expired(JobFlow),
    /// A fetch failed.
    FetchFailed(JobFlow),
    /// A standing pull failed.
    StandingFailed(JobFlow),
    /// A job has ended.
    Ended(Ended),
    /// Tenants have other weights or limits.
    Specs(TenantSpecs),
    /// Exactly these tenants have used their tokens per minute, until these times.
    Throttles(Vec<(Tenant, Instant)>),
    /// A tenant has used its tokens per minute, until this time.
    Throttled(Tenant, Instant),
    /// Jobs of a tenant may run again.
    Released(Tenant),
    /// All pulls are gone: the connection was lost and is back, or the stream has changed.
    Reset,
    /// A job runs alone, or waits for it: no further jobs are taken.
    Closed,
    /// No job runs alone any more.
    Opened,
    /// The worker takes no further jobs.
    Drain,
    /// Something is due ([`Dispatcher::due`]).
    Tick,
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Fetch a job of the flow.
    Fetch(JobFlow),
    /// Leave a standing pull with the flow, for a free slot.
    Stand(JobFlow),
    /// Leave a standing pull with the flow, behind those for free slots: a batch job has to be paused first.
    StandToPreempt(JobFlow),
    /// Withdraw all standing pulls.
    Withdraw,
    /// List the flows that have jobs.
    List,
    /// Run a delivered job.
    Start(u64),
    /// Pause a batch job at the next token, so that it returns to the queue.
    Pause(u64),
    /// Return a delivered job to the queue.
    Return(u64),
}

/// Purpose of the standing pulls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stance {
    /// A slot is free for any job.
    Free,
    /// An interactive job may take the slot of a batch job.
    Preempting,
}

/// Owner of the slots. It decides which jobs the worker pulls.
#[derive(Debug)]
pub struct Dispatcher {
    rules: Rules,
    slots: Slots,
    flows: Flows,
    stance: Option<Stance>,
    /// Time at which the last free slot was taken, while the pulls for free slots linger.
    full_since: Option<Instant>,
    /// Interactive jobs chosen since the last batch job while batch jobs waited.
    interactive_in_a_row: u32,
    /// Expected tokens of a job: a moving average.
    expected: u64,
    listed: Option<Instant>,
    /// True while a job runs alone, or waits for it.
    is_closed: bool,
    is_draining: bool,
}

impl Dispatcher {
    /// Dispatcher of a worker without jobs.
    pub fn new(rules: Rules, now: Instant) -> Self {
        Self {
            rules,
            slots: Slots::new(rules.slots),
            flows: Flows::new(now),
            stance: None,
            full_since: None,
            interactive_in_a_row: 0,
            expected: 1,
            listed: None,
            is_closed: false,
            is_draining: false,
        }
    }

    /// Takes notice of an event. Returns what is to be done, in order.
    pub fn step(&mut self, event: Event, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.handle(event, now, &mut effects);
        self.plan(now, &mut effects);
        effects
    }

    /// Time at which [`Event::Tick`] is due.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let flows = self.flows.iter().filter_map(|(_, flow)| flow.due(now, self.rules.standing));
        let withdrawal = self.full_since.map(|since| since + LINGERING);
        let others = [self.listed.map(|at| at + self.listing()), withdrawal, self.flows.tenants.due()];
        let others = others.into_iter().flatten();
        flows.chain(self.slots.due(now)).chain(others).filter(|_| !self.is_draining).min()
    }

    /// True while a fetch is under way, which may deliver a job.
    pub fn is_fetching(&self) -> bool {
        self.fetching() > 0
    }

    fn handle(&mut self, event: Event, now: Instant, effects: &mut Vec<Effect>) {
        match event {
            Event::Queued(name) => {
                let flow = self.flows.entry(&name, now);
                // A job of a flow with a standing pull is taken by that pull, or by the one of another worker.
                let waiting = flow.map(|flow| flow.waiting + u64::from(flow.standing.is_none()));
                self.flows.wait(&name, waiting.unwrap_or(0), now);
            }
            Event::Listed(listed) => self.flows.list(&listed, now),
            Event::Fetched(Delivered { job, flow: name, waiting }) => {
                if let Some(flow) = self.flows.entry(&name, now) {
                    flow.fetching = flow.fetching.saturating_sub(1);
                    (flow.waiting, flow.used) = (waiting, now);
                }
                self.delivered(job, name, now, effects);
            }
            Event::Stood(Delivered { job, flow: name, waiting }) => {
                self.charge(&name, now);
                if let Some(flow) = self.flows.get_mut(&name) {
                    flow.standing = None;
                    (flow.waiting, flow.used) = (waiting, now);
                }
                self.delivered(job, name, now, effects);
            }
            Event::Late(Delivered { job, flow: name, .. }) => {
                self.charge(&name, now);
                self.delivered(job, name, now, effects);
            }
            Event::Empty(name) => {
                self.refund(&name);
                let is_limited = self.flows.tenants.has_running_limit(&name.tenant);
                let Some(flow) = self.flows.get_mut(&name) else { return };
                flow.fetching = flow.fetching.saturating_sub(1);
                if is_limited && flow.was_kept(self.rules.limited_fetch, now) {
                    flow.found_full(now);
                    self.flows.raise(&name);
                } else {
                    flow.found_empty(now);
                }
            }
            Event::FetchFailed(name) => {
                self.refund(&name);
                if let Some(flow) = self.flows.get_mut(&name) {
                    flow.fetching = flow.fetching.saturating_sub(1);
                    flow.failed(now);
                }
            }
            Event::Expired(name) => {
                if let Some(flow) = self.flows.get_mut(&name) {
                    flow.standing = None;
                }
            }
            Event::StandingFailed(name) => {
                if let Some(flow) = self.flows.get_mut(&name) {
                    flow.standing = None;
                    flow.failed(now);
                }
            }
            Event::Ended(ended) => self.ended(ended),
            Event::Specs(specs) => {
                self.flows.tenants.set_specs(specs);
                // A limit may be higher now.
                self.flows.iter_mut().for_each(|(_, flow)| flow.has_room());
            }
            Event::Throttles(throttles) => {
                let gone: Vec<Tenant> = self.flows.tenants.throttled().cloned().collect();
                let is_gone = |tenant: &Tenant| !throttles.iter().any(|(throttled, _)| throttled == tenant);
                gone.into_iter().filter(is_gone).for_each(|tenant| self.release(&tenant));
                throttles.into_iter().for_each(|(tenant, until)| self.throttle(tenant, until, effects));
            }
            Event::Throttled(tenant, until) => self.throttle(tenant, until, effects),
            Event::Released(tenant) => self.release(&tenant),
            Event::Reset => {
                for (_, flow) in self.flows.iter_mut() {
                    (flow.fetching, flow.standing) = (0, None);
                }
                (self.stance, self.listed) = (None, None);
            }
            Event::Closed => self.is_closed = true,
            Event::Opened => self.is_closed = false,
            Event::Drain => self.is_draining = true,
            Event::Tick => {
                for tenant in self.flows.tenants.take_due(now) {
                    self.flows.released(&tenant);
                }
                for (_, flow) in self.flows.iter_mut() {
                    if flow.forget_lost(now, self.rules.standing) > 0 {
                        flow.failed(now);
                    }
                }
            }
        }
    }

    /// Starts no further jobs of a tenant. Standing pulls of its flows are withdrawn with all others, which are sent again.
    fn throttle(&mut self, tenant: Tenant, until: Instant, effects: &mut Vec<Effect>) {
        let flows = JobClass::ALL.map(|class| JobFlow { class, tenant: tenant.clone() });
        if flows.iter().any(|name| self.flows.get_mut(name).is_some_and(|flow| flow.standing.is_some())) {
            self.take_stance(None, effects);
        }
        self.flows.tenants.throttle(tenant, until);
    }

    fn release(&mut self, tenant: &Tenant) {
        if self.flows.tenants.release(tenant) {
            self.flows.released(tenant);
        }
    }

    /// Decides about a delivered job: run it, make room for it, or return it.
    fn delivered(&mut self, job: u64, name: JobFlow, now: Instant, effects: &mut Vec<Effect>) {
        if self.is_draining {
            return effects.push(Effect::Return(job));
        }
        if self.is_closed || self.flows.tenants.is_throttled(&name.tenant, now) {
            return self.give_back(job, &name, effects);
        }
        if self.slots.free() > 0 {
            return self.start(job, name, now, effects);
        }
        let victim = match name.class {
            JobClass::Interactive => self.slots.hold(job, name.clone(), now),
            JobClass::Batch => None,
        };
        match victim {
            Some(victim) => effects.push(Effect::Pause(victim)),
            None => self.give_back(job, &name, effects),
        }
    }

    fn start(&mut self, job: u64, name: JobFlow, now: Instant, effects: &mut Vec<Effect>) {
        let is_turn = name.class == JobClass::Batch && self.flows.has_waiting(JobClass::Interactive, now);
        let protected = is_turn.then(|| now + self.rules.batch_turn);
        if let Some(flow) = self.flows.get_mut(&name) {
            flow.running += 1;
        }
        let charged = self.flows.cost(&name, self.expected);
        self.slots.start(job, name, charged, protected, now);
        effects.push(Effect::Start(job));
    }

    fn give_back(&mut self, job: u64, name: &JobFlow, effects: &mut Vec<Effect>) {
        self.refund(name);
        if let Some(flow) = self.flows.get_mut(name) {
            flow.waiting += 1;
        }
        effects.push(Effect::Return(job));
    }

    fn ended(&mut self, Ended { job, tokens, returned }: Ended) {
        let Some(running) = self.slots.end(job) else { return };
        let cost = self.flows.cost(&running.flow, tokens);
        let is_limited = self.flows.tenants.has_running_limit(&running.flow.tenant);
        if let Some(flow) = self.flows.get_mut(&running.flow) {
            flow.running = flow.running.saturating_sub(1);
            if is_limited {
                flow.has_room();
            }
            flow.served = flow.served.saturating_sub(running.charged).saturating_add(cost);
            flow.waiting += u64::from(returned);
        }
        if !returned {
            self.expected = ((WEIGHT_OF_ONE - 1) * self.expected + tokens).div_ceil(WEIGHT_OF_ONE).max(1);
        }
    }

    /// Charges a flow with the expected tokens of a job. [`Flows::choose`] charges those that are fetched.
    fn charge(&mut self, name: &JobFlow, now: Instant) {
        let cost = self.flows.cost(name, self.expected);
        if let Some(flow) = self.flows.entry(name, now) {
            flow.served = flow.served.saturating_add(cost);
        }
    }

    /// Takes back the charge of a job that was not started.
    fn refund(&mut self, name: &JobFlow) {
        let cost = self.flows.cost(name, self.expected);
        if let Some(flow) = self.flows.get_mut(name) {
            flow.served = flow.served.saturating_sub(cost);
        }
    }

    fn plan(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let takes_none = self.is_draining || self.is_closed;
        for (job, name) in self.slots.give_up_held(takes_none, now) {
            self.give_back(job, &name, effects);
        }
        while let Some((job, name)) = self.slots.next_held() {
            self.start(job, name, now, effects);
        }
        if takes_none {
            return self.take_stance(None, effects);
        }
        if self.listed.is_none_or(|at| now >= at + self.listing()) {
            self.listed = Some(now);
            effects.push(Effect::List);
        }
        while self.slots.free() > self.fetching() {
            let Some(flow) = self.choose(now) else { break };
            effects.push(Effect::Fetch(flow));
        }
        if self.slots.free() > 0 {
            self.full_since = None;
        }
        if self.slots.free() == 0 {
            let preempting = (self.slots.preemptible(now) > 0).then_some(Stance::Preempting);
            if preempting.is_none() && self.lingers(now) {
                return;
            }
            self.take_stance(preempting, effects);
        } else if self.slots.free() > self.fetching() {
            self.take_stance(Some(Stance::Free), effects);
        } else {
            // Fetches are under way for all free slots. Another standing pull would bring a job too many.
            return self.take_stance(self.stance.filter(|stance| *stance == Stance::Free), effects);
        }
        self.stand(now, effects);
    }

    /// The flow to fetch from. One of `batch_share` jobs is a batch job while both classes wait. None if no job is known to
    /// wait: standing pulls find the others.
    fn choose(&mut self, now: Instant) -> Option<JobFlow> {
        if !JobClass::ALL.into_iter().any(|class| self.flows.has_waiting(class, now)) {
            return None;
        }
        let batch_waits = self.flows.may_wait(JobClass::Batch, now);
        let share = self.rules.batch_share;
        let is_turn = share > 0 && batch_waits && self.interactive_in_a_row + 1 >= share;
        let order = if is_turn { [JobClass::Batch, JobClass::Interactive] } else { JobClass::ALL };
        let flow = order.into_iter().find_map(|class| self.flows.choose(class, self.expected, now))?;
        self.interactive_in_a_row = match flow.class {
            JobClass::Interactive if batch_waits => self.interactive_in_a_row + 1,
            JobClass::Interactive | JobClass::Batch => 0,
        };
        Some(flow)
    }

    /// True while a full worker leaves its standing pulls as they are.
    fn lingers(&mut self, now: Instant) -> bool {
        self.stance == Some(Stance::Free) && now < *self.full_since.get_or_insert(now) + LINGERING
    }

    /// Withdraws the standing pulls if they have another purpose.
    fn take_stance(&mut self, stance: Option<Stance>, effects: &mut Vec<Effect>) {
        self.full_since = None;
        if self.stance == stance {
            return;
        }
        if self.stance.is_some() {
            effects.push(Effect::Withdraw);
            for (_, flow) in self.flows.iter_mut() {
                flow.standing = None;
            }
        }
        self.stance = stance;
    }

    /// Leaves standing pulls with the flows that lack one.
    fn stand(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let (classes, pull): (&[JobClass], fn(JobFlow) -> Effect) = match self.stance {
            None => return,
            Some(Stance::Free) => (&JobClass::ALL, Effect::Stand),
            Some(Stance::Preempting) => (&[JobClass::Interactive], Effect::StandToPreempt),
        };
        for name in self.flows.to_stand(classes, now) {
            if let Some(flow) = self.flows.get_mut(&name) {
                flow.standing = Some(now);
            }
            effects.push(pull(name));
        }
    }

    /// Time between two listings.
    fn listing(&self) -> Duration {
        if self.flows.are_too_many() { SEARCH } else { LISTING }
    }

    fn fetching(&self) -> usize {
        self.flows.iter().map(|(_, flow)| flow.fetching as usize).sum()
    }
}
