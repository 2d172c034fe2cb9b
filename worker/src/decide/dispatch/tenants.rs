//! Tenants: the weight of each, and those that have used their tokens per minute.

use std::{collections::BTreeMap, time::Instant};

use rbee_schema::{Tenant, TenantSpecs};

/// Cost of a token for a tenant of weight 1. Large, so that costs for other weights are exact enough as whole numbers.
const TOKEN: u64 = 1_000;

/// Weights and limits of tenants, as far as the choice of a flow depends on them.
#[derive(Debug, Default)]
pub(super) struct Tenants {
    specs: TenantSpecs,
    /// Tenants whose jobs are not started, and until when.
    throttled: BTreeMap<Tenant, Instant>,
}

impl Tenants {
    /// Replaces all weights and limits.
    pub(super) fn set_specs(&mut self, specs: TenantSpecs) {
        self.specs = specs;
    }

    /// Cost of tokens for a tenant: inversely proportional to its weight.
    pub(super) fn cost(&self, tenant: &Tenant, tokens: u64) -> u64 {
        let weight = u64::from(self.specs.get(tenant).weight.thousandths());
        (tokens.saturating_mul(TOKEN * 1_000) / weight).max(tokens.min(1))
    }

    /// True if the number of running jobs of the tenant is limited.
    pub(super) fn has_running_limit(&self, tenant: &Tenant) -> bool {
        self.specs.get(tenant).max_running.is_some()
    }

    /// True if the limit of the tenant permits a job beside `running` ones of the same flow. The server counts those of other
    /// workers too.
    pub(super) fn has_room(&self, tenant: &Tenant, running: u32) -> bool {
        self.specs.get(tenant).max_running.is_none_or(|limit| running < limit)
    }

    /// Starts no jobs of a tenant before `until`. Too many throttled tenants are not remembered: their jobs run.
    pub(super) fn throttle(&mut self, tenant: Tenant, until: Instant) {
        if self.throttled.len() < TenantSpecs::MOST || self.throttled.contains_key(&tenant) {
            self.throttled.insert(tenant, until);
        }
    }

    /// Starts jobs of a tenant again. Returns false if it was not throttled.
    pub(super) fn release(&mut self, tenant: &Tenant) -> bool {
        self.throttled.remove(tenant).is_some()
    }

    /// Throttled tenants.
    pub(super) fn throttled(&self) -> impl Iterator<Item = &Tenant> {
        self.throttled.keys()
    }

    /// Removes the tenants whose time is over.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Tenant> {
        self.throttled.extract_if(.., |_, until| *until <= now).map(|(tenant, _)| tenant).collect()
    }

    /// True if no jobs of the tenant are started at present.
    pub(super) fn is_throttled(&self, tenant: &Tenant, now: Instant) -> bool {
        // The map is empty nearly always, and this is asked for each flow.
        !self.throttled.is_empty() && self.throttled.get(tenant).is_some_and(|until| now < *until)
    }

    /// Time at which the first throttled tenant may run jobs again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.throttled.values().min().copied()
    }
}
