//! Events of tenants, on `rbee.evt.tenant.<tenant>.<event>`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::names::event_names;
use crate::{Failure, TenantSpec};

/// Event of a tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum TenantEvent {
    /// The record of the tenant was written or changed.
    Configured {
        /// The record.
        spec: TenantSpec,
        /// The previous record, if there was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<TenantSpec>,
    },
    /// The record was removed. That of the tenant `default` applies.
    Removed {},
    /// The document under the tenant's key is not a valid record. It has no effect: that of the tenant `default` applies.
    Refused {
        /// Reason of the refusal.
        failure: Failure,
    },
    /// The tenant has used its tokens per minute. No further job of it starts until the last minute holds fewer.
    Throttled {
        /// Tokens that jobs of the tenant have used within the last minute.
        tokens: u64,
        /// Limit of tokens per minute.
        tokens_per_minute: u64,
        /// Time until jobs may start again, in milliseconds. Jobs that still run may extend it.
        for_ms: u64,
    },
}

event_names!(TenantEvent {
    Configured => "configured",
    Removed => "removed",
    Refused => "refused",
    Throttled => "throttled",
});
