//! `rbee explain`: where another worker of a model would go, and why.

use clap::Args;
use rbee_schema::{
    ModelName,
    api::{Explanation, ModelRequest},
};

use crate::{Setting, outcome::Outcome, show};

/// Options of `rbee explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// The model's name.
    name: ModelName,
}

impl Explain {
    pub(crate) async fn run(self, setting: Setting) -> Result<(), Outcome> {
        let bus = setting.bus("cli/explain").await?;
        let explained: Explanation = bus.request("explain", &ModelRequest { model: self.name }).await?;
        if setting.json {
            show::json(&explained);
            return Ok(());
        }
        match &explained.hive {
            Some(hive) => println!("another worker of {} would go to {hive}: {}\n", explained.model, explained.why),
            None => println!("another worker of {} would go nowhere: {}\n", explained.model, explained.why),
        }
        let row = |opinion: rbee_schema::api::PlacementCandidate| {
            let fits = if opinion.fits { "yes" } else { "no" };
            [opinion.hive.to_string(), fits.to_owned(), opinion.why]
        };
        show::table(["HIVE", "SUITED", "WHY"], explained.hives.into_iter().map(row).collect(), "no hive is connected");
        Ok(())
    }
}
