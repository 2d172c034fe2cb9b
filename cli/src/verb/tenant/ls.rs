//! `rbee tenant ls`: lists tenants with their limits and what they use.

use clap::Args;
use rbee_schema::api::{RefusedTenant, TenantUsage, Tenants};

use crate::{
    Context,
    error::CliError,
    output::{self, or_dash, say},
    paging,
};

/// Options of `rbee tenant ls`.
#[derive(Debug, Args)]
pub(crate) struct Ls {}

impl Ls {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        let bus = context.bus("cli/tenant").await?;
        let reply: Tenants = paging::fetch_all(&bus).await?;
        if context.json {
            output::json(&reply);
            return Ok(());
        }
        let header = [
            "TENANT",
            "WEIGHT",
            "MAX RUNNING",
            "MAX QUEUED",
            "MAX TOKENS/MIN",
            "RUNNING",
            "QUEUED",
            "TOKENS/MIN",
            "THROTTLED UNTIL",
        ];
        let empty = "no tenant has limits or jobs; `rbee tenant set NAME --weight 2` sets a weight";
        output::table(header, reply.tenants.iter().map(row).collect(), empty);
        for RefusedTenant { name, failure } in &reply.refused {
            say!("\n{name}: its record is invalid and has no effect: {failure}");
        }
        Ok(())
    }
}

fn row(tenant: &TenantUsage) -> [String; 9] {
    let TenantUsage { name, spec, jobs_running, jobs_queued, tokens, throttled_until, .. } = tenant;
    [
        name.to_string(),
        spec.weight.to_string(),
        or_dash(spec.max_running),
        or_dash(spec.max_queued),
        or_dash(spec.tokens_per_minute),
        jobs_running.to_string(),
        jobs_queued.to_string(),
        tokens.to_string(),
        or_dash(throttled_until.as_deref().map(output::timestamp)),
    ]
}
