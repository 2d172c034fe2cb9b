//! Tokens that jobs of tenants have used within the last minute.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use rbee_schema::Tenant;

/// Parts of the window in which tokens are added up, which bounds the memory of a tenant.
const PARTS: u32 = 60;

/// Maximum number of tenants without a record whose tokens are counted. Anybody can invent tenants. Those beyond it are not
/// counted until others have used nothing for the time of the window.
const MOST: usize = 10_000;

/// Time over which limits are given.
const MINUTE: Duration = Duration::from_secs(60);

/// Tokens used by each tenant within a sliding window.
#[derive(Debug)]
pub(super) struct Usage {
    window: Duration,
    tenants: BTreeMap<Tenant, Window>,
    /// Time before which no search for idle tenants is worthwhile.
    next_cleaning: Option<Instant>,
}

/// Tokens of one tenant: the start of each part of the window, and the tokens used in it.
#[derive(Debug, Default)]
struct Window(VecDeque<(Instant, u64)>);

impl Usage {
    pub(super) fn new(window: Duration) -> Self {
        Self { window, tenants: BTreeMap::new(), next_cleaning: None }
    }

    /// Adds the tokens of a job that ended at `at`. `has_record` is true for a tenant that an operator has named.
    pub(super) fn add(&mut self, tenant: &Tenant, has_record: bool, tokens: u64, at: Instant) {
        if !has_record && !self.tenants.contains_key(tenant) && !self.has_room(at) {
            return;
        }
        let part = self.window / PARTS;
        self.tenants.entry(tenant.clone()).or_default().add(tokens, at, part);
    }

    /// Forgets all tokens.
    pub(super) fn clear(&mut self) {
        self.tenants.clear();
    }

    /// Tokens that a tenant has used within the window.
    pub(super) fn tokens(&self, tenant: &Tenant, now: Instant) -> u64 {
        self.tenants.get(tenant).map_or(0, |used| used.current(self.window, now).map(|(_, tokens)| tokens).sum())
    }

    /// Time at which the tokens of a tenant are below its limit per minute again. `None` if they are now.
    pub(super) fn exceeded_until(&self, tenant: &Tenant, limit: u64, now: Instant) -> Option<Instant> {
        let used = self.tenants.get(tenant)?;
        let limit = self.limit_of_window(limit);
        let mut tokens: u64 = used.current(self.window, now).map(|(_, tokens)| tokens).sum();
        if tokens < limit {
            return None;
        }
        used.current(self.window, now).find_map(|(start, gone)| {
            tokens -= gone;
            (tokens < limit).then(|| start + self.window)
        })
    }

    /// Tenants that have used tokens within the window.
    pub(super) fn active(&self, now: Instant) -> impl Iterator<Item = &Tenant> {
        let active = move |used: &Window| used.current(self.window, now).next().is_some();
        self.tenants.iter().filter(move |(_, used)| active(used)).map(|(tenant, _)| tenant)
    }

    /// Part of a limit per minute that applies to the window.
    fn limit_of_window(&self, limit: u64) -> u64 {
        let share = u128::from(limit) * self.window.as_nanos() / MINUTE.as_nanos();
        u64::try_from(share).unwrap_or(u64::MAX).max(1)
    }

    /// True if a further tenant can be counted. Forgets idle tenants if there are too many, at most once in a part of the window.
    fn has_room(&mut self, now: Instant) -> bool {
        if self.tenants.len() >= MOST && self.next_cleaning.is_none_or(|at| now >= at) {
            self.next_cleaning = Some(now + self.window / PARTS);
            let window = self.window;
            self.tenants.retain(|_, used| used.current(window, now).next().is_some());
        }
        self.tenants.len() < MOST
    }
}

impl Window {
    fn add(&mut self, tokens: u64, at: Instant, part: Duration) {
        let after = self.0.partition_point(|(start, _)| *start <= at);
        match after.checked_sub(1).and_then(|before| self.0.get_mut(before)) {
            Some((start, sum)) if at < *start + part => *sum = sum.saturating_add(tokens),
            Some(_) | None => self.0.insert(after, (at, tokens)),
        }
        // No more parts than there are in the window are within it.
        while self.0.len() > PARTS as usize + 1 {
            self.0.pop_front();
        }
    }

    fn current(&self, window: Duration, now: Instant) -> impl Iterator<Item = (Instant, u64)> {
        self.0.iter().copied().filter(move |(start, _)| now < *start + window)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn tenant(name: &str) -> Tenant {
        name.parse().expect("a name")
    }

    #[test]
    fn tokens_count_for_a_minute() {
        let (mut usage, begin, acme) = (Usage::new(MINUTE), Instant::now(), tenant("acme"));
        usage.add(&acme, false, 30, begin);
        usage.add(&acme, false, 70, begin + 20 * SECOND);
        for (seconds, tokens) in [(0, 100), (20, 100), (59, 100), (60, 70), (79, 70), (80, 0)] {
            assert_eq!(usage.tokens(&acme, begin + seconds * SECOND), tokens, "after {seconds} s");
        }
        assert_eq!(usage.tokens(&tenant("other"), begin), 0);
    }

    #[test]
    fn limit_is_exceeded_until_enough_tokens_are_a_minute_old() {
        let (mut usage, begin, acme) = (Usage::new(MINUTE), Instant::now(), tenant("acme"));
        for second in [0, 10, 20] {
            usage.add(&acme, false, 100, begin + second * SECOND);
        }
        let now = begin + 30 * SECOND;
        for (limit, seconds) in [(301, None), (300, Some(60)), (201, Some(60)), (200, Some(70)), (1, Some(80))] {
            let until = seconds.map(|seconds| begin + seconds * SECOND);
            assert_eq!(usage.exceeded_until(&acme, limit, now), until, "limit {limit}");
        }
    }

    #[test]
    fn limit_applies_in_proportion_to_another_window() {
        let (mut usage, now, acme) = (Usage::new(2 * SECOND), Instant::now(), tenant("acme"));
        usage.add(&acme, false, 10, now);
        assert_eq!(usage.exceeded_until(&acme, 300, now), Some(now + 2 * SECOND));
        assert_eq!(usage.exceeded_until(&acme, 330, now), None);
    }

    #[test]
    fn tokens_from_before_the_start_are_added_in_order() {
        let (mut usage, now, acme) = (Usage::new(MINUTE), Instant::now() + MINUTE, tenant("acme"));
        usage.add(&acme, false, 1, now);
        usage.add(&acme, false, 10, now - 30 * SECOND);
        usage.add(&acme, false, 100, now - 50 * SECOND);
        let tokens = [0, 10, 30].map(|seconds| usage.tokens(&acme, now + seconds * SECOND));
        assert_eq!(tokens, [111, 11, 1]);
    }

    #[test]
    fn invented_tenants_take_a_bounded_memory_and_leave_no_named_one_out() {
        let (mut usage, now) = (Usage::new(MINUTE), Instant::now());
        for number in 0..MOST + 100 {
            usage.add(&tenant(&format!("t{number}")), false, 1, now);
        }
        usage.add(&tenant("named"), true, 7, now);
        assert_eq!((usage.tenants.len(), usage.tokens(&tenant("named"), now)), (MOST + 1, 7));
        usage.add(&tenant("later"), false, 1, now + MINUTE);
        assert_eq!(usage.tenants.len(), 1, "idle tenants are forgotten");
    }

    proptest! {
        #[test]
        fn exceeded_time_ends_when_the_sum_is_below_the_limit(
            used in proptest::collection::vec((0_u64..100, 1_u64..50), 1..80), limit in 1_u64..500
        ) {
            let (mut usage, begin, acme) = (Usage::new(MINUTE), Instant::now(), tenant("acme"));
            let mut now = begin;
            for (pause, tokens) in used {
                now += Duration::from_millis(pause * 50);
                usage.add(&acme, false, tokens, now);
            }
            prop_assert!(usage.tenants[&acme].0.len() <= PARTS as usize + 1);
            match usage.exceeded_until(&acme, limit, now) {
                None => prop_assert!(usage.tokens(&acme, now) < limit),
                Some(until) => {
                    prop_assert!(until > now && until <= now + MINUTE);
                    prop_assert!(usage.tokens(&acme, until) < limit);
                    prop_assert!(usage.tokens(&acme, until - Duration::from_nanos(1)) >= limit);
                }
            }
        }
    }
}
