//! List of tenants with their limits and what they use, page by page.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use rbee_nats::Bus;
use rbee_schema::{
    Failure, FailureCode, Tenant, TenantSpecs,
    api::{PageRequest, RefusedTenant, TenantUsage, Tenants as Page},
};

use crate::decide::{fleet::Fleet, tenants::Tenants};

/// Tenants in one page. One takes a few hundred bytes, and the server takes messages of a megabyte.
const PAGE_SIZE: usize = 500;

/// Invalid records listed with the first page.
const LISTED_REFUSALS: usize = 500;

/// Knowledge of the queen about tenants, without the jobs that wait.
pub(super) struct Snapshot {
    specs: TenantSpecs,
    refused: Vec<RefusedTenant>,
    /// Tenants with a record, tokens or running jobs.
    used: BTreeMap<Tenant, Used>,
}

/// Use of the fleet by a tenant.
#[derive(Default)]
struct Used {
    running: u64,
    tokens: u64,
    /// Time until further jobs may start.
    throttled_for: Option<Duration>,
}

impl Snapshot {
    pub(super) fn of(fleet: &Fleet, tenants: &Tenants, now: Instant) -> Self {
        let mut used: BTreeMap<Tenant, Used> = BTreeMap::new();
        for job in fleet.workers().values().flat_map(|worker| worker.jobs.iter()) {
            used.entry(job.tenant.clone()).or_default().running += 1;
        }
        for tenant in tenants.specs().own().keys().chain(tenants.active(now)) {
            used.entry(tenant.clone()).or_default();
        }
        for (tenant, used) in &mut used {
            used.tokens = tenants.tokens(tenant, now);
            used.throttled_for = tenants.throttled_until(tenant, now).map(|until| until - now);
        }
        let refused = tenants.refused().iter().take(LISTED_REFUSALS);
        let refused = refused.map(|(name, failure)| RefusedTenant { name: name.clone(), failure: failure.clone() });
        Self { specs: tenants.specs().clone(), refused: refused.collect(), used }
    }
}

/// One page of tenants.
pub(super) async fn list(bus: &Bus, snapshot: Snapshot, PageRequest { after }: PageRequest) -> Result<Page, Failure> {
    let Snapshot { specs, refused, mut used } = snapshot;
    let count = bus.count_queue().await.map_err(|error| Failure::new(FailureCode::TimedOut, error.to_string()))?;
    for tenant in count.tenants.keys() {
        used.entry(tenant.clone()).or_default();
    }
    let refused = if after.is_none() { refused } else { Vec::new() };
    let now = SystemTime::now();
    let is_behind = |tenant: &Tenant| after.as_ref().is_none_or(|after| tenant.as_str() > after.as_str());
    let mut behind = used.into_iter().filter(|(tenant, _)| is_behind(tenant));
    let tenants: Vec<TenantUsage> = behind
        .by_ref()
        .take(PAGE_SIZE)
        .map(|(name, used)| {
            let depth = count.tenants.get(&name).copied().unwrap_or(0);
            TenantUsage {
                spec: specs.get(&name),
                has_record: specs.own().contains_key(&name),
                jobs_running: used.running,
                jobs_queued: depth.saturating_sub(used.running),
                tokens: used.tokens,
                throttled_until: used
                    .throttled_for
                    .map(|wait| humantime::format_rfc3339_millis(now + wait).to_string()),
                name,
            }
        })
        .collect();
    let next = behind.next().and_then(|_| tenants.last()).map(|last| last.name.to_string());
    Ok(Page { tenants, refused, next })
}
