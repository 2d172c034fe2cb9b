//! Tenants: their records, the tokens that they use, and their waiting jobs.
//!
//! Every queen follows the records and the tokens, so that it can answer requests and lead at any time. The leader throttles
//! tenants that have used their tokens per minute, and refuses jobs beyond the limit of waiting jobs. Weights and limits of
//! running jobs are applied by workers and the server.

mod backlog;
mod demand;
mod usage;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rbee_schema::{Failure, FailureCode, Tenant, TenantSpec, TenantSpecs, TenantThrottle};

use self::{
    backlog::{Backlogs, Counted},
    usage::Usage,
};

/// Everything the queen knows about tenants.
#[derive(Debug)]
pub struct Tenants {
    specs: TenantSpecs,
    /// Invalid records, with the reason.
    refused: BTreeMap<Tenant, Failure>,
    /// Maximum number of invalid records that are remembered.
    most_refused: usize,
    usage: Usage,
    /// Tenants whose throttle this queen has published, and its end.
    throttled: BTreeMap<Tenant, Instant>,
    backlogs: Backlogs,
}

/// Work that follows for the leading queen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TenantEffect {
    /// A tenant has used its tokens per minute: publish that workers start no jobs of it.
    Throttle(Tenant, TenantThrottle, Throttling),
    /// Publish that jobs of a tenant may run again.
    Release(Tenant),
}

/// Reason for publishing a throttle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Throttling {
    /// The tenant was not throttled.
    Begins,
    /// Jobs that still ran have used further tokens, or the limit has changed.
    Changes,
}

/// Job beyond its tenant's limit of waiting jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExcessJob {
    /// Tenant that owns the job.
    pub tenant: Tenant,
    /// Sequence in the stream `jobs`.
    pub sequence: u64,
    /// Limit of waiting jobs.
    pub limit: u32,
}

impl ExcessJob {
    /// Failure that answers the job.
    pub fn failure(&self) -> Failure {
        let Self { tenant, limit, .. } = self;
        let message = format!(
            "{limit} jobs of tenant {tenant} wait already, and no more may (max_queued of the tenant): submit the job later"
        );
        Failure::new(FailureCode::QueueFull, message)
    }
}

impl Tenants {
    /// No tenants. Tokens are added up over `window`, and at most `most_refused` invalid records are remembered.
    pub fn new(window: Duration, most_refused: usize) -> Self {
        Self {
            specs: TenantSpecs::default(),
            refused: BTreeMap::new(),
            most_refused,
            usage: Usage::new(window),
            throttled: BTreeMap::new(),
            backlogs: Backlogs::default(),
        }
    }

    /// Weights and limits.
    pub fn specs(&self) -> &TenantSpecs {
        &self.specs
    }

    /// Invalid records, with the reason.
    pub fn refused(&self) -> &BTreeMap<Tenant, Failure> {
        &self.refused
    }

    /// Tokens that jobs of a tenant have used within the window.
    pub fn tokens(&self, tenant: &Tenant, now: Instant) -> u64 {
        self.usage.tokens(tenant, now)
    }

    /// Tenants that have used tokens within the window.
    pub fn active(&self, now: Instant) -> impl Iterator<Item = &Tenant> {
        self.usage.active(now)
    }

    /// Time at which further jobs of a tenant may start. `None` if they may now.
    pub fn throttled_until(&self, tenant: &Tenant, now: Instant) -> Option<Instant> {
        let limit = self.specs.get(tenant).tokens_per_minute?;
        self.usage.exceeded_until(tenant, limit, now)
    }

    /// A tenant has another record, or none. Returns the record before.
    ///
    /// # Errors
    /// There are too many records. This one has no effect.
    pub fn configured(&mut self, tenant: &Tenant, spec: Option<TenantSpec>) -> Result<Option<TenantSpec>, Failure> {
        self.refused.remove(tenant);
        let before = self.specs.own().get(tenant).copied();
        if self.specs.set(tenant, spec) {
            return Ok(before);
        }
        let message = format!("there are {} records of tenants, and no more have an effect", TenantSpecs::MOST);
        Err(Failure::new(FailureCode::InvalidRequest, message))
    }

    /// The document of a tenant is invalid and has no effect. Returns true if that should be reported: it was not refused for the
    /// same reason before, and the limit of refused documents is not reached.
    pub fn refuse(&mut self, tenant: &Tenant, failure: Failure) -> bool {
        if self.refused.get(tenant) == Some(&failure) {
            return false;
        }
        self.specs.set(tenant, None);
        self.refused.remove(tenant);
        let has_room = self.refused.len() < self.most_refused;
        if has_room {
            self.refused.insert(tenant.clone(), failure);
        }
        has_room
    }

    /// A job of a tenant that ended at `at` has used tokens.
    pub fn used(&mut self, tenant: &Tenant, tokens: u64, at: Instant) {
        if tokens > 0 {
            self.usage.add(tenant, self.specs.own().contains_key(tenant), tokens, at);
        }
    }

    /// Forgets the tokens of all tenants, before they are added again from the stored events.
    pub fn forget_usage(&mut self) {
        self.usage.clear();
    }

    /// Throttles a tenant, or releases it.
    pub fn throttle(&mut self, tenant: &Tenant, now: Instant) -> Option<TenantEffect> {
        let before = self.throttled.get(tenant).copied();
        match (before, self.throttled_until(tenant, now)) {
            (None, None) => None,
            (Some(_), None) => {
                self.throttled.remove(tenant);
                Some(TenantEffect::Release(tenant.clone()))
            }
            (Some(before), Some(until)) if before == until => None,
            (before, Some(until)) => {
                self.throttled.insert(tenant.clone(), until);
                let for_ms = u64::try_from((until - now).as_millis()).unwrap_or(u64::MAX).max(1);
                let tokens_per_minute = self.specs.get(tenant).tokens_per_minute.unwrap_or_default();
                let throttle = TenantThrottle { for_ms, tokens: self.tokens(tenant, now), tokens_per_minute };
                let why = if before.is_some() { Throttling::Changes } else { Throttling::Begins };
                Some(TenantEffect::Throttle(tenant.clone(), throttle, why))
            }
        }
    }

    /// Throttles and releases all tenants for which that may be due: records have changed, or this queen begins to lead.
    pub fn throttle_all(&mut self, now: Instant) -> Vec<TenantEffect> {
        let tenants: Vec<Tenant> = self.usage.active(now).chain(self.throttled.keys()).cloned().collect();
        tenants.iter().filter_map(|tenant| self.throttle(tenant, now)).collect()
    }

    /// Releases the tenants whose time is over.
    pub fn release_due(&mut self, now: Instant) -> Vec<TenantEffect> {
        let due = self.throttled.iter().filter(|(_, until)| **until <= now).map(|(tenant, _)| tenant.clone());
        due.collect::<Vec<Tenant>>().iter().filter_map(|tenant| self.throttle(tenant, now)).collect()
    }

    /// Time at which the first throttled tenant is released.
    pub fn release_due_at(&self) -> Option<Instant> {
        self.throttled.values().min().copied()
    }

    /// Time from which a count of the queue decides about the oldest job that may be refused.
    pub fn count_due_at(&self) -> Option<Instant> {
        self.backlogs.due()
    }

    /// A job of a tenant was stored.
    pub fn job_stored(&mut self, tenant: &Tenant, sequence: u64, now: Instant) {
        if let Some(limit) = self.specs.get(tenant).max_queued {
            self.backlogs.stored(tenant, sequence, limit, now);
        }
    }

    /// A count of the queue begins.
    pub fn count_begins(&mut self) {
        self.backlogs.count_begins();
    }

    /// A count of the queue that began at `begun` has ended. Returns the jobs to be refused.
    pub fn counted(
        &mut self,
        depths: &BTreeMap<Tenant, u64>,
        running: impl Fn(&Tenant) -> u64,
        begun: Instant,
    ) -> Vec<ExcessJob> {
        let mut excess = Vec::new();
        for tenant in self.backlogs.tenants().cloned().collect::<Vec<Tenant>>() {
            let limit = self.specs.get(&tenant).max_queued;
            let depth = depths.get(&tenant).copied().unwrap_or(0);
            let counted = Counted { depth, running: running(&tenant), limit };
            let refused = self.backlogs.counted(&tenant, counted, begun);
            let limit = limit.unwrap_or_default();
            excess.extend(refused.into_iter().map(|sequence| ExcessJob { tenant: tenant.clone(), sequence, limit }));
        }
        excess
    }

    /// Forgets what belongs to leading.
    pub fn stop_leading(&mut self) {
        self.throttled.clear();
        self.backlogs.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);

    fn acme() -> Tenant {
        "acme".parse().expect("a name")
    }

    fn limited(tokens_per_minute: u64) -> Tenants {
        let mut tenants = Tenants::new(MINUTE, 2);
        let spec = TenantSpec { tokens_per_minute: Some(tokens_per_minute), ..TenantSpec::default() };
        assert_eq!(tenants.configured(&acme(), Some(spec)), Ok(None));
        tenants
    }

    fn text(effects: impl IntoIterator<Item = TenantEffect>) -> Vec<String> {
        let text = |effect| match effect {
            TenantEffect::Throttle(tenant, throttle, why) => format!("{tenant} {} ms {why:?}", throttle.for_ms),
            TenantEffect::Release(tenant) => format!("release {tenant}"),
        };
        effects.into_iter().map(text).collect()
    }

    #[test]
    fn tenant_is_throttled_once_extended_and_released_in_time() {
        let (mut tenants, now) = (limited(100), Instant::now());
        tenants.used(&acme(), 99, now);
        assert_eq!(text(tenants.throttle(&acme(), now)), [""; 0]);
        tenants.used(&acme(), 1, now + 10 * SECOND);
        assert_eq!(text(tenants.throttle(&acme(), now + 10 * SECOND)), ["acme 50000 ms Begins"]);
        assert_eq!(text(tenants.throttle(&acme(), now + 11 * SECOND)), [""; 0]);
        // A job that still ran has ended.
        tenants.used(&acme(), 100, now + 20 * SECOND);
        assert_eq!(text(tenants.throttle(&acme(), now + 20 * SECOND)), ["acme 60000 ms Changes"]);
        assert_eq!(tenants.release_due_at(), Some(now + 80 * SECOND));
        assert_eq!(text(tenants.release_due(now + 79 * SECOND)), [""; 0]);
        assert_eq!(text(tenants.release_due(now + 80 * SECOND)), ["release acme"]);
        assert_eq!(tenants.release_due_at(), None);
    }

    #[test]
    fn change_of_the_limit_throttles_or_releases_at_once() {
        let (mut tenants, now) = (limited(100), Instant::now());
        tenants.used(&acme(), 150, now);
        assert_eq!(text(tenants.throttle_all(now)), ["acme 60000 ms Begins"]);
        let spec = |limit| Some(TenantSpec { tokens_per_minute: limit, ..TenantSpec::default() });
        tenants.configured(&acme(), spec(Some(151))).expect("configured");
        assert_eq!(text(tenants.throttle_all(now)), ["release acme"]);
        tenants.configured(&acme(), spec(Some(150))).expect("configured");
        assert_eq!(text(tenants.throttle_all(now)), ["acme 60000 ms Begins"]);
        tenants.configured(&acme(), None).expect("configured");
        assert_eq!(text(tenants.throttle_all(now)), ["release acme"]);
    }

    #[test]
    fn next_leader_throttles_again_what_is_throttled() {
        let (mut tenants, now) = (limited(100), Instant::now());
        tenants.used(&acme(), 100, now);
        assert_eq!(text(tenants.throttle_all(now)), ["acme 60000 ms Begins"]);
        tenants.stop_leading();
        assert_eq!(text(tenants.throttle_all(now + SECOND)), ["acme 59000 ms Begins"]);
    }

    #[test]
    fn record_of_the_default_tenant_limits_each_tenant_by_itself() {
        let (mut tenants, now) = (Tenants::new(MINUTE, 2), Instant::now());
        let spec = TenantSpec { tokens_per_minute: Some(100), ..TenantSpec::default() };
        tenants.configured(&Tenant::default(), Some(spec)).expect("configured");
        tenants.used(&acme(), 60, now);
        tenants.used(&Tenant::default(), 60, now);
        assert_eq!(text(tenants.throttle_all(now)), [""; 0]);
        tenants.used(&acme(), 60, now);
        assert_eq!(text(tenants.throttle_all(now)), ["acme 60000 ms Begins"]);
    }

    #[test]
    fn invalid_record_counts_as_none_and_is_reported_once() {
        let mut tenants = limited(100);
        let failure = |text: &str| Failure::new(FailureCode::InvalidRequest, text);
        assert!(tenants.refuse(&acme(), failure("one")));
        assert!(!tenants.refuse(&acme(), failure("one")), "the same again");
        assert!(tenants.refuse(&acme(), failure("two")));
        assert_eq!((tenants.specs().get(&acme()), tenants.refused().len()), (TenantSpec::default(), 1));
        let others = ["b", "c"].map(|name| tenants.refuse(&name.parse().expect("a name"), failure("three")));
        assert_eq!((others, tenants.refused().len()), ([true, false], 2), "the memory is bounded");
        assert_eq!(tenants.configured(&acme(), Some(TenantSpec::default())), Ok(None));
        assert!(!tenants.refused().contains_key(&acme()));
    }

    #[test]
    fn only_tenants_with_a_limit_have_jobs_refused() {
        let (mut tenants, now) = (Tenants::new(MINUTE, 2), Instant::now());
        let spec = TenantSpec { max_queued: Some(1), ..TenantSpec::default() };
        tenants.configured(&acme(), Some(spec)).expect("configured");
        let other: Tenant = "other".parse().expect("a name");
        for sequence in 0..4 {
            tenants.job_stored(&acme(), sequence, now);
            tenants.job_stored(&other, 10 + sequence, now);
        }
        tenants.count_begins();
        let depths = [(acme(), 4), (other, 4)].into();
        let excess = tenants.counted(&depths, |_| 1, now + SECOND);
        assert_eq!(excess.iter().map(|job| job.sequence).collect::<Vec<_>>(), [2, 3]);
        let failure = excess[0].failure();
        assert!(failure.code == FailureCode::QueueFull && failure.message.contains("max_queued"), "{failure}");
    }
}
