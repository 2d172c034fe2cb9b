//! `rbee tenant set`: sets the weight or limits of a tenant.

use std::str::FromStr;

use clap::{ArgGroup, Args};
use rbee_nats::Registry;
use rbee_schema::{Tenant, TenantSpec, TenantWeight};

use crate::{
    Context,
    error::CliError,
    output::{self, say},
};

/// Options of which at least one is named.
const LIMITS: [&str; 4] = ["weight", "max_running", "max_queued", "tokens_per_minute"];

/// Options of `rbee tenant set`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("limits").args(LIMITS).required(true).multiple(true)))]
pub(crate) struct Set {
    /// Name of the tenant; `default` for all tenants without a record.
    name: Tenant,
    /// Share of the tokens while several tenants have waiting jobs, relative to their weights, such as 3 or 0.5.
    #[arg(long, value_name = "NUMBER")]
    weight: Option<TenantWeight>,
    /// Jobs that run at once, for each model and class; `none` for no limit.
    #[arg(long, value_name = "JOBS")]
    max_running: Option<Limit<u32>>,
    /// Jobs that wait, over all models; `none` for no limit.
    #[arg(long, value_name = "JOBS")]
    max_queued: Option<Limit<u32>>,
    /// Tokens of prompts and answers per minute, over all models; `none` for no limit.
    #[arg(long, value_name = "TOKENS")]
    tokens_per_minute: Option<Limit<u64>>,
}

/// Value of a limit, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limit<T>(Option<T>);

impl<T: FromStr> FromStr for Limit<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        text.parse()
            .map(|limit| Self(Some(limit)))
            .map_err(|_| "expected a whole number from 1 on, or `none`".to_owned())
    }
}

impl Set {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        let bus = context.bus("cli/tenant").await?;
        let tenants = Registry::tenants(&bus);
        // An invalid record is replaced.
        let before = tenants.all_keys(self.name.as_str()).await?.into_iter().find_map(|(_, spec)| spec);
        let spec = self.change(before.unwrap_or_default());
        spec.check().map_err(|failure| CliError::usage(failure.message))?;
        tenants.put(self.name.as_str(), &spec).await?;
        if context.json {
            output::json(&spec);
        } else {
            say!("{}: {}", self.name, describe(&spec));
        }
        Ok(())
    }

    /// The record with what these options name.
    fn change(&self, spec: TenantSpec) -> TenantSpec {
        TenantSpec {
            weight: self.weight.unwrap_or(spec.weight),
            max_running: self.max_running.map_or(spec.max_running, |Limit(limit)| limit),
            max_queued: self.max_queued.map_or(spec.max_queued, |Limit(limit)| limit),
            tokens_per_minute: self.tokens_per_minute.map_or(spec.tokens_per_minute, |Limit(limit)| limit),
        }
    }
}

fn describe(spec: &TenantSpec) -> String {
    let limit = |name: &str, limit: Option<u64>| match limit {
        Some(limit) => format!("{name} {limit}"),
        None => format!("{name} unlimited"),
    };
    let limits = [
        limit("max-running", spec.max_running.map(u64::from)),
        limit("max-queued", spec.max_queued.map(u64::from)),
        limit("tokens-per-minute", spec.tokens_per_minute),
    ];
    format!("weight {}, {}", spec.weight, limits.join(", "))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        set: Set,
    }

    fn change(options: &str, before: TenantSpec) -> Result<TenantSpec, clap::Error> {
        let words = ["set", "acme"].into_iter().chain(options.split_whitespace());
        Line::try_parse_from(words).map(|line| line.set.change(before))
    }

    #[test]
    fn only_what_is_named_changes() {
        let before = TenantSpec { max_running: Some(4), max_queued: Some(10), ..TenantSpec::default() };
        let spec = change("--weight 2 --max-running none --tokens-per-minute 500", before).expect("valid");
        let expected = TenantSpec {
            weight: "2".parse().expect("a weight"),
            max_running: None,
            tokens_per_minute: Some(500),
            ..before
        };
        assert_eq!(spec, expected);
        assert_eq!(describe(&spec), "weight 2, max-running unlimited, max-queued 10, tokens-per-minute 500");
    }

    #[test]
    fn invalid_options_are_refused() {
        for (options, words) in [
            ("", "--weight"),
            ("--weight 0", "from 0.001 to 1000"),
            ("--max-running few", "a whole number from 1 on, or `none`"),
            ("--max-queued -1", "unexpected argument"),
        ] {
            let error = change(options, TenantSpec::default()).expect_err(options).to_string();
            assert!(error.contains(words), "{options}: {error}");
        }
    }
}
