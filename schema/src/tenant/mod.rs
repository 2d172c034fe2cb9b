//! Tenants: the share of the fleet that each gets, and the limits that each has.

mod spec;
mod specs;
mod weight;

pub use self::{
    spec::{TenantSpec, TenantThrottle},
    specs::TenantSpecs,
    weight::TenantWeight,
};
