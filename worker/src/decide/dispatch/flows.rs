//! The flows of a model, and the fair choice between them.
//!
//! Within a class the flow that was served the fewest tokens goes first (virtual token counters: Sheng et al., "Fairness in
//! Serving Large Language Models", OSDI 2024). A flow that had no jobs starts from the counter of the flow that was chosen
//! last, so that it cannot save up service.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rbee_schema::{JobClass, JobFlow, Tenant};

use super::{flow::Flow, tenants::Tenants};

/// Maximum number of flows that a worker remembers, which bounds its memory. Flows beyond it are found by a listing.
const MOST: usize = 4096;

/// Maximum number of flows with a standing pull, which bounds the pulls that an idle worker sends. The jobs of the others are
/// found by notices and listings.
const MOST_STANDING: usize = 64;

/// Time without jobs after which a flow is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(10 * 60);

/// Flows of a model.
#[derive(Debug)]
pub(super) struct Flows {
    flows: BTreeMap<JobFlow, Flow>,
    /// Counter of the flow of each class that was chosen last, when it was chosen.
    last_served: BTreeMap<JobClass, u64>,
    pub(super) tenants: Tenants,
}

impl Flows {
    /// The flows of the default tenant, which are never forgotten.
    pub(super) fn new(now: Instant) -> Self {
        let flows = JobClass::ALL.map(|class| (JobFlow { class, tenant: Tenant::default() }, Flow::new(now)));
        Self { flows: flows.into(), last_served: BTreeMap::new(), tenants: Tenants::default() }
    }

    /// Every flow, to be changed.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&JobFlow, &mut Flow)> {
        self.flows.iter_mut()
    }

    /// Every flow.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&JobFlow, &Flow)> {
        self.flows.iter()
    }

    /// A flow. None if it is new and too many flows are remembered.
    pub(super) fn entry(&mut self, flow: &JobFlow, now: Instant) -> Option<&mut Flow> {
        if !self.flows.contains_key(flow) && self.flows.len() >= MOST && !self.forget_one() {
            return None;
        }
        Some(self.flows.entry(flow.clone()).or_insert_with(|| Flow::new(now)))
    }

    /// Jobs of a flow wait. A flow that had none starts from the counter of the flow that was chosen last.
    pub(super) fn wait(&mut self, name: &JobFlow, jobs: u64, now: Instant) {
        let floor = self.floor(name.class);
        let Some(flow) = self.entry(name, now) else { return };
        if !flow.is_active() {
            flow.served = flow.served.max(floor);
        }
        (flow.waiting, flow.used) = (jobs, now);
    }

    /// Cost of tokens for the tenant of a flow.
    pub(super) fn cost(&self, flow: &JobFlow, tokens: u64) -> u64 {
        self.tenants.cost(&flow.tenant, tokens)
    }

    /// Jobs of a tenant may run again. Its flows have saved up no service meanwhile.
    pub(super) fn released(&mut self, tenant: &Tenant) {
        for class in JobClass::ALL {
            self.raise(&JobFlow { class, tenant: tenant.clone() });
        }
    }

    /// Lets a flow that could not be served start from the counter of the flow that was chosen last.
    pub(super) fn raise(&mut self, name: &JobFlow) {
        let floor = self.floor(name.class);
        if let Some(flow) = self.flows.get_mut(name) {
            flow.served = flow.served.max(floor);
        }
    }

    fn floor(&self, class: JobClass) -> u64 {
        self.last_served.get(&class).copied().unwrap_or(0)
    }

    /// Flow that is remembered.
    pub(super) fn get_mut(&mut self, flow: &JobFlow) -> Option<&mut Flow> {
        self.flows.get_mut(flow)
    }

    /// The flow of a class to fetch from: the one that was served least for its weight. It is charged with `tokens`, the
    /// expected size of a job.
    pub(super) fn choose(&mut self, class: JobClass, tokens: u64, now: Instant) -> Option<JobFlow> {
        let floor = self.floor(class);
        let rank = |flow: &Flow| if flow.is_active() { flow.served } else { flow.served.max(floor) };
        let candidates = self.may_run(class, now).filter(|(_, flow)| flow.may_wait(now));
        let (chosen, rank) = candidates.map(|(name, flow)| (name.clone(), rank(flow))).min_by_key(|(_, rank)| *rank)?;
        self.last_served.insert(class, rank);
        let cost = self.cost(&chosen, tokens);
        if let Some(flow) = self.flows.get_mut(&chosen) {
            flow.served = rank.saturating_add(cost);
            flow.begin_fetch(now);
        }
        Some(chosen)
    }

    /// True if some flows get no standing pull, or are not remembered.
    pub(super) fn are_too_many(&self) -> bool {
        self.flows.len() > MOST_STANDING
    }

    /// True if a job of the class is known to wait.
    pub(super) fn has_waiting(&self, class: JobClass, now: Instant) -> bool {
        self.may_run(class, now).any(|(_, flow)| flow.has_waiting(now))
    }

    /// True if a job of the class may wait.
    pub(super) fn may_wait(&self, class: JobClass, now: Instant) -> bool {
        self.may_run(class, now).any(|(_, flow)| flow.may_wait(now))
    }

    /// Flows of a class of which a further job may run, as far as this worker knows.
    fn may_run(&self, class: JobClass, now: Instant) -> impl Iterator<Item = (&JobFlow, &Flow)> {
        let flows = self.flows.iter().filter(move |(name, _)| name.class == class);
        flows.filter(move |(name, flow)| {
            self.tenants.has_room(&name.tenant, flow.running + flow.fetching)
                && !self.tenants.is_throttled(&name.tenant, now)
        })
    }

    /// Flows without a standing pull that get one: those with waiting jobs first, then the ones used last.
    pub(super) fn to_stand(&self, classes: &[JobClass], now: Instant) -> Vec<JobFlow> {
        let held = self.flows.values().filter(|flow| flow.standing.is_some()).count();
        let mut lacking: Vec<_> = self
            .flows
            .iter()
            .filter(|(name, flow)| classes.contains(&name.class) && flow.standing.is_none() && flow.may_be_asked(now))
            .filter(|(name, _)| !self.tenants.is_throttled(&name.tenant, now))
            .collect();
        lacking.sort_by_key(|(name, flow)| {
            std::cmp::Reverse((name.tenant == Tenant::default(), flow.waiting > 0, flow.used))
        });
        lacking.into_iter().take(MOST_STANDING.saturating_sub(held)).map(|(name, _)| name.clone()).collect()
    }

    /// Takes over a listing: new flows, and the number of jobs of those that no pull waits for. Forgets flows without jobs.
    pub(super) fn list(&mut self, listed: &[(JobFlow, u64)], now: Instant) {
        for (name, jobs) in listed {
            let Some(flow) = self.entry(name, now) else { continue };
            flow.used = now;
            if flow.standing.is_none() {
                let waiting = jobs.saturating_sub(u64::from(flow.running));
                self.wait(name, waiting, now);
            }
        }
        self.flows
            .retain(|name, flow| name.tenant == Tenant::default() || flow.is_active() || now < flow.used + FORGOTTEN);
    }

    /// Forgets the flow without jobs that was used longest ago.
    fn forget_one(&mut self) -> bool {
        let idle = self.flows.iter().filter(|(name, flow)| name.tenant != Tenant::default() && !flow.is_active());
        let oldest = idle.min_by_key(|(_, flow)| flow.used).map(|(name, _)| name.clone());
        oldest.is_some_and(|name| self.flows.remove(&name).is_some())
    }
}
