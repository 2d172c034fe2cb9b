//! `rbee audit`: lists the audit trail, and verifies its seals.

mod trail;
mod verify;

use std::time::Duration;

use clap::{Args, Subcommand};

use crate::{Context, error::CliError};

/// Options of `rbee audit`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Audit {
    #[command(subcommand)]
    action: Option<Action>,
    /// List the entries of this period, such as 90s, 5m or 1h.
    #[arg(long, default_value = "1h", value_parser = rbee_schema::parse_duration, value_name = "TIME")]
    since: Duration,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Check that no event was changed, added or removed after it was sealed.
    #[command(
        after_help = "The leading queen seals events a second after they are stored. Each seal holds a hash over the events \
                      since the previous seal and over that seal's hash. Whoever may write to the stream could reseal all of \
                      it: keep the printed hash elsewhere, and pass it with --expect later."
    )]
    Verify {
        /// Hash of a seal that was printed earlier. The trail must still contain it.
        #[arg(long, value_name = "HASH")]
        expect: Option<String>,
    },
}

impl Audit {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        let bus = context.bus("cli/audit").await?;
        match self.action {
            Some(Action::Verify { expect }) => verify::verify(&context, &bus, expect.as_deref()).await,
            None => trail::list(&context, &bus, self.since).await,
        }
    }
}
