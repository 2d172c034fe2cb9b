//! `rbee explain`: the hive that the queen would choose for another worker of a model, and why.

use clap::Args;
use rbee_schema::{
    ModelName,
    api::{Explanation, ModelRequest},
};

use crate::{
    Context,
    error::CliError,
    output::{self, say},
};

/// Options of `rbee explain`.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Name of the model.
    name: ModelName,
}

impl Explain {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        let bus = context.bus("cli/explain").await?;
        let explained: Explanation = bus.request("explain", &ModelRequest { model: self.name }).await?;
        if context.json {
            output::json(&explained);
            return Ok(());
        }
        match &explained.hive {
            Some(hive) => {
                say!("another worker of {} would be placed on {hive}: {}\n", explained.model, explained.why);
            }
            None => say!("another worker of {} could not be placed: {}\n", explained.model, explained.why),
        }
        let row = |candidate: rbee_schema::api::PlacementCandidate| {
            let fits = if candidate.fits { "yes" } else { "no" };
            [candidate.hive.to_string(), fits.to_owned(), candidate.why]
        };
        output::table(
            ["HIVE", "SUITED", "WHY"],
            explained.hives.into_iter().map(row).collect(),
            "no hive is connected",
        );
        Ok(())
    }
}
