//! The records of all tenants, and the record that applies to a tenant.

use std::collections::BTreeMap;

use super::TenantSpec;
use crate::Tenant;

/// Records of tenants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TenantSpecs {
    own: BTreeMap<Tenant, TenantSpec>,
    /// Record of the tenant `default`.
    default: TenantSpec,
}

impl TenantSpecs {
    /// Maximum number of records, which bounds the memory of every process that knows them. Further ones have no effect.
    pub const MOST: usize = 10_000;

    /// Record that applies to a tenant: its own, else that of the tenant `default`, else one without limits.
    pub fn get(&self, tenant: &Tenant) -> TenantSpec {
        self.own.get(tenant).copied().unwrap_or(self.default)
    }

    /// Records by tenant.
    pub fn own(&self) -> &BTreeMap<Tenant, TenantSpec> {
        &self.own
    }

    /// Sets or removes the record of a tenant. Returns false if there are too many records.
    pub fn set(&mut self, tenant: &Tenant, spec: Option<TenantSpec>) -> bool {
        match spec {
            Some(_) if !self.own.contains_key(tenant) && self.own.len() >= Self::MOST => return false,
            Some(spec) => drop(self.own.insert(tenant.clone(), spec)),
            None => drop(self.own.remove(tenant)),
        }
        if *tenant == Tenant::default() {
            self.default = spec.unwrap_or_default();
        }
        true
    }
}

impl FromIterator<(Tenant, TenantSpec)> for TenantSpecs {
    fn from_iter<I: IntoIterator<Item = (Tenant, TenantSpec)>>(records: I) -> Self {
        let mut specs = Self::default();
        for (tenant, spec) in records {
            specs.set(&tenant, Some(spec));
        }
        specs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> Tenant {
        name.parse().expect("a name")
    }

    fn running(limit: u32) -> TenantSpec {
        TenantSpec { max_running: Some(limit), ..TenantSpec::default() }
    }

    #[test]
    fn record_of_the_default_tenant_applies_to_tenants_without_one() {
        let mut specs = TenantSpecs::default();
        assert_eq!(specs.get(&tenant("acme")), TenantSpec::default());
        assert!(specs.set(&Tenant::default(), Some(running(2))) && specs.set(&tenant("acme"), Some(running(3))));
        let limits =
            |specs: &TenantSpecs| ["acme", "other", "default"].map(|name| specs.get(&tenant(name)).max_running);
        assert_eq!(limits(&specs), [Some(3), Some(2), Some(2)]);
        specs.set(&tenant("acme"), None);
        assert_eq!(limits(&specs), [Some(2); 3]);
        specs.set(&Tenant::default(), None);
        assert_eq!(limits(&specs), [None; 3]);
    }

    #[test]
    fn number_of_records_is_bounded() {
        let many = (0..TenantSpecs::MOST).map(|number| (tenant(&format!("t{number}")), TenantSpec::default()));
        let mut specs: TenantSpecs = many.collect();
        assert!(!specs.set(&tenant("further"), Some(running(1))), "it has no effect");
        assert!(specs.set(&tenant("t0"), Some(running(1))), "a known one may be changed");
        assert_eq!(specs.get(&tenant("further")), TenantSpec::default());
    }
}
