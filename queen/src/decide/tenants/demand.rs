//! Demand for workers: jobs that would run if there were more of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use rbee_schema::{JobFlow, ModelName, Tenant};

use super::Tenants;

impl Tenants {
    /// Jobs of each model without those that may not run at present: of throttled tenants, and beyond limits of running jobs.
    /// `flows` has the waiting and running jobs of each model and flow, and `running` is the number of running jobs of a model and tenant.
    pub fn demand(
        &self,
        flows: &[(ModelName, JobFlow, u64)],
        running: impl Fn(&ModelName, &Tenant) -> u64,
        now: Instant,
    ) -> BTreeMap<ModelName, u64> {
        let (mut demand, mut throttled) = (BTreeMap::new(), BTreeSet::new());
        for (model, JobFlow { tenant, .. }, depth) in flows {
            let jobs: &mut u64 = demand.entry(model.clone()).or_default();
            if self.throttled_until(tenant, now).is_some() {
                throttled.insert((model, tenant));
            } else {
                *jobs += self.specs().get(tenant).max_running.map_or(*depth, |limit| u64::from(limit).min(*depth));
            }
        }
        for (model, tenant) in throttled {
            *demand.entry(model.clone()).or_default() += running(model, tenant);
        }
        demand
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rbee_schema::{JobClass, TenantSpec};

    use super::*;

    #[test]
    fn jobs_that_may_not_run_are_no_demand() {
        let (mut tenants, now) = (Tenants::new(Duration::from_secs(60), 2), Instant::now());
        let tenant = |name: &str| name.parse::<Tenant>().expect("a name");
        let set = |tenants: &mut Tenants, name: &str, spec| drop(tenants.configured(&tenant(name), Some(spec)));
        set(&mut tenants, "capped", TenantSpec { max_running: Some(3), ..TenantSpec::default() });
        set(&mut tenants, "thirsty", TenantSpec { tokens_per_minute: Some(10), ..TenantSpec::default() });
        tenants.used(&tenant("thirsty"), 10, now);
        let flow = |model: &str, class, name: &str, depth| {
            (model.parse::<ModelName>().expect("a name"), JobFlow { class, tenant: tenant(name) }, depth)
        };
        let (interactive, batch) = (JobClass::Interactive, JobClass::Batch);
        let flows = [
            flow("a", interactive, "free", 7),
            flow("a", interactive, "capped", 20),
            flow("a", batch, "capped", 2),
            flow("a", interactive, "thirsty", 50),
            flow("a", batch, "thirsty", 50),
            flow("b", interactive, "thirsty", 50),
        ];
        let running = |model: &ModelName, _: &Tenant| u64::from(model.as_str() == "a");
        let demand: Vec<u64> = tenants.demand(&flows, running, now).into_values().collect();
        assert_eq!(demand, [7 + 3 + 2 + 1, 0]);
        let later: Vec<u64> = tenants.demand(&flows, running, now + Duration::from_secs(60)).into_values().collect();
        assert_eq!(later, [7 + 3 + 2 + 100, 50]);
    }
}
