//! Tenants: their records, throttles of those that have used their tokens per minute, and refusals of jobs beyond the limit of
//! waiting jobs. [`Tenants`](crate::decide::tenants::Tenants) decides.

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant, SystemTime},
};

use futures::{StreamExt as _, stream};
use rbee_nats::{Begun, Bus, BusError, EndedJob, Entry, Message, Registry, Subject};
use rbee_schema::{
    Event as BusEvent, Failure, FailureCode, JobEvent, JobId, Tenant, TenantEvent, TenantSpec, TenantThrottle, Usage,
};
use tracing::{debug, info, warn};

use super::{Controller, Report, refusals::answer, registries::ignore_key, state::UsedTokens};
use crate::{
    decide::{
        fleet::Fleet,
        tenants::{ExcessJob, TenantEffect, Throttling},
    },
    metrics,
};

/// Number of events that are read at a time.
const BATCH: usize = 500;

/// Number of jobs that are refused at a time: enough to hide the round trip to the server.
const WINDOW: usize = 64;

/// Time for which the record of a throttle outlives the throttle if no queen leads then. The server counts whole seconds.
const LATE: Duration = Duration::from_secs(1);

impl Controller {
    pub(super) fn handle_tenant(&mut self, entry: Entry<TenantSpec>) {
        match entry {
            Entry::Set { key, document: spec, revision, .. } => {
                let Ok(tenant) = key.parse::<Tenant>() else { return ignore_key("tenant", &key) };
                match spec.check() {
                    Ok(()) if self.tenants.known.specs().own().get(&tenant) == Some(&spec) => {}
                    Ok(()) => self.tenant_configured(tenant, spec, revision),
                    Err(failure) => self.refuse_tenant(tenant, failure),
                }
            }
            Entry::Unreadable { key, error, .. } => {
                let Ok(tenant) = key.parse::<Tenant>() else { return ignore_key("tenant", &key) };
                self.refuse_tenant(tenant, Failure::new(FailureCode::InvalidRequest, error));
            }
            Entry::Removed(key) => {
                let Ok(tenant) = key.parse::<Tenant>() else { return };
                let known = &self.tenants.known;
                let was_known = known.specs().own().contains_key(&tenant) || known.refused().contains_key(&tenant);
                // A removal is always accepted.
                let _ = self.tenants.known.configured(&tenant, None);
                if was_known {
                    info!(%tenant, "the record of a tenant was removed");
                    self.publish_tenant_event(tenant, TenantEvent::Removed {});
                }
            }
            Entry::Synced => self.registry_read(),
        }
        self.throttle_tenants();
        // Further jobs may run now, which is demand for workers.
        self.count_queue();
    }

    fn tenant_configured(&mut self, tenant: Tenant, spec: TenantSpec, revision: u64) {
        match self.tenants.known.configured(&tenant, Some(spec)) {
            Ok(before) => {
                info!(%tenant, "a tenant was configured");
                if self.has_read_registries() {
                    // Every queen publishes the event, so that it is not lost while none leads; the server stores it once.
                    let id = format!("configured-{tenant}-{revision}");
                    let configured = TenantEvent::Configured { spec, before };
                    self.outbox.publish_once(&BusEvent::Tenant(tenant, configured), &id);
                }
            }
            Err(failure) => self.refuse_tenant(tenant, failure),
        }
    }

    fn refuse_tenant(&mut self, tenant: Tenant, failure: Failure) {
        metrics::ignored("record of a tenant");
        if self.tenants.known.refuse(&tenant, failure.clone()) {
            warn!(%tenant, %failure, "the record of a tenant is invalid and has no effect");
            self.publish_tenant_event(tenant, TenantEvent::Refused { failure });
        }
    }

    /// Publishes an event if this queen leads. Entries from before its start were published when they were written.
    fn publish_tenant_event(&self, tenant: Tenant, event: TenantEvent) {
        if self.has_read_registries() && self.leads() {
            self.outbox.publish(&BusEvent::Tenant(tenant, event));
        }
    }

    /// A job has ended.
    pub(super) fn handle_job_end(&mut self, message: &Message) {
        let Some(Subject::JobEvent(tenant, ..)) = self.bus.parse(&message.subject) else { return };
        let Ok(event) = serde_json::from_slice(&message.payload) else { return metrics::ignored("end of a job") };
        let (tokens, now) = (tokens_of(&event), Instant::now());
        if tokens > 0 {
            self.tenants.known.used(&tenant, tokens, now);
            if self.leads() {
                let effect = self.tenants.known.throttle(&tenant, now);
                self.carry_out_throttles(effect);
            }
        }
    }

    /// Reads the tokens of the jobs that ended while this queen received nothing.
    pub(super) fn read_usage(&mut self) {
        let (bus, window) = (self.bus.clone(), self.fleet.timers().token_window);
        self.tasks.spawn(async move {
            let used = recent_usage(&bus, window).await;
            Report::Used(used.inspect_err(|error| warn!(%error, "the recent tokens of tenants could not be read")).ok())
        });
    }

    /// The tokens of recent jobs were read: all that were known when the last of them was.
    pub(super) fn handle_usage(&mut self, used: Option<Vec<UsedTokens>>) {
        let Some(used) = used else { return };
        let now = Instant::now();
        self.tenants.known.forget_usage();
        for UsedTokens { tenant, tokens, age } in used {
            self.tenants.known.used(&tenant, tokens, now.checked_sub(age).unwrap_or(now));
        }
        self.throttle_tenants();
    }

    /// Throttles and releases all tenants for which that is due, if this queen leads.
    pub(super) fn throttle_tenants(&mut self) {
        if self.leads() {
            let effects = self.tenants.known.throttle_all(Instant::now());
            self.carry_out_throttles(effects);
        }
    }

    fn carry_out_throttles(&mut self, effects: impl IntoIterator<Item = TenantEffect>) {
        let throttles = Registry::throttles(&self.bus);
        for effect in effects {
            match effect {
                TenantEffect::Throttle(tenant, throttle, why) => {
                    let TenantThrottle { for_ms, tokens, tokens_per_minute } = throttle;
                    let time_to_live = Duration::from_secs(for_ms.div_ceil(1000)) + LATE;
                    throttles.put_ordered(&self.outbox, tenant.as_str(), &throttle, Some(time_to_live));
                    if why == Throttling::Begins {
                        info!(%tenant, tokens, tokens_per_minute, for_ms, "a tenant has used its tokens per minute");
                        let throttled = TenantEvent::Throttled { tokens, tokens_per_minute, for_ms };
                        self.outbox.publish(&BusEvent::Tenant(tenant, throttled));
                    }
                }
                TenantEffect::Release(tenant) => {
                    debug!(%tenant, "jobs of a tenant may start again");
                    throttles.remove_ordered(&self.outbox, tenant.as_str());
                    // Its jobs are demand for workers again.
                    self.count_queue();
                }
            }
        }
    }

    /// Time at which something about tenants is due.
    pub(super) fn tenants_due(&self) -> Option<Instant> {
        if !self.leads() {
            return None;
        }
        self.tenants.known.release_due_at().into_iter().chain(self.excess_count_due()).min()
    }

    /// Time at which a count of the queue is due that decides about jobs beyond the limit.
    fn excess_count_due(&self) -> Option<Instant> {
        if self.tenants.is_refusing || self.queue_count.is_running || !self.has_read_registries() {
            return None;
        }
        let due = self.tenants.known.count_due_at()?;
        Some(self.queue_count.started.map_or(due, |started| due.max(started + self.fleet.timers().count)))
    }

    pub(super) fn handle_tenants_due(&mut self) {
        let now = Instant::now();
        let effects = self.tenants.known.release_due(now);
        self.carry_out_throttles(effects);
        if self.excess_count_due().is_some_and(|due| now >= due) {
            self.count_queue();
        }
    }

    /// The queue was counted from `begun` on. Refuses the jobs beyond the limits of their tenants, if this queen leads.
    pub(super) fn tenants_counted(&mut self, depths: &BTreeMap<Tenant, u64>, begun: Instant) {
        if !self.leads() || self.tenants.is_refusing {
            return;
        }
        let running = match self.tenants.known.count_due_at() {
            Some(_) => running_by_tenant(&self.fleet),
            None => BTreeMap::new(),
        };
        let running = |tenant: &Tenant| running.get(tenant).copied().unwrap_or(0);
        let excess = self.tenants.known.counted(depths, running, begun);
        if excess.is_empty() {
            return;
        }
        self.tenants.is_refusing = true;
        let (bus, running) = (self.bus.clone(), self.fleet.running_jobs());
        self.tasks.spawn(async move {
            refuse_all(&bus, excess, &running).await;
            Report::ExcessRefused
        });
    }

    pub(super) fn handle_excess_refused(&mut self) {
        self.tenants.is_refusing = false;
        // The models have fewer waiting jobs now, and further jobs of tenants may be beyond their limits.
        self.count_queue();
    }
}

/// Number of running jobs of each tenant, from heartbeats.
fn running_by_tenant(fleet: &Fleet) -> BTreeMap<Tenant, u64> {
    let mut running = BTreeMap::new();
    for job in fleet.workers().values().flat_map(|worker| worker.jobs.iter()) {
        *running.entry(job.tenant.clone()).or_insert(0) += 1;
    }
    running
}

/// Tokens that a job has used, from the event of its end.
fn tokens_of(event: &JobEvent) -> u64 {
    let usage = match event {
        JobEvent::Finished { usage, .. } => Some(usage),
        JobEvent::Failed { usage, .. } => usage.as_ref(),
        JobEvent::Started { .. }
        | JobEvent::Paused { .. }
        | JobEvent::Returned { .. }
        | JobEvent::Blamed(_)
        | JobEvent::Retried { .. }
        | JobEvent::Resubmitted { .. } => None,
    };
    usage.map_or(0, |Usage { prompt_tokens, completion_tokens, .. }| {
        u64::from(*prompt_tokens) + u64::from(*completion_tokens)
    })
}

/// Tokens of the jobs that have ended within `window`, oldest first.
async fn recent_usage(bus: &Bus, window: Duration) -> Result<Vec<UsedTokens>, BusError> {
    let now = SystemTime::now();
    let since = now.checked_sub(window).unwrap_or(SystemTime::UNIX_EPOCH);
    let (mut used, mut after) = (Vec::new(), None);
    loop {
        let batch = bus.ended_jobs(None, after, since, BATCH).await?;
        let ended = batch.jobs.into_iter().map(|EndedJob { tenant, event, stored, .. }| UsedTokens {
            tenant,
            tokens: tokens_of(&event),
            age: now.duration_since(stored).unwrap_or_default(),
        });
        used.extend(ended.filter(|used| used.tokens > 0));
        after = batch.next;
        if after.is_none() {
            return Ok(used);
        }
    }
}

/// Answers jobs beyond the limits of their tenants with a failure. A job that a worker has is left alone.
async fn refuse_all(bus: &Bus, excess: Vec<ExcessJob>, running: &HashSet<(Tenant, JobId)>) {
    let refusals = stream::iter(excess).map(|excess| async move {
        match bus.queued_job_at(excess.sequence).await {
            Ok(Some(queued)) if queued.tenant != excess.tenant => {}
            Ok(Some(queued)) if running.contains(&(queued.tenant.clone(), queued.job.clone())) => {}
            Ok(Some(queued)) => {
                // A failure is logged there; the job waits on.
                let _ = answer(bus, &queued, &excess.failure(), Begun::Leave).await;
            }
            Ok(None) => {}
            Err(error) => {
                warn!(tenant = %excess.tenant, %error, "a job beyond the limit of its tenant could not be read");
            }
        }
    });
    refusals.buffer_unordered(WINDOW).collect::<()>().await;
}
