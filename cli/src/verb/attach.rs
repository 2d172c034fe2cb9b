//! `rbee attach`: the output of a job.

use std::{
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use clap::Args;
use rbee_nats::{Follow, FollowError};
use rbee_schema::{Chunk, Failure, JobId, Tenant};

use crate::{Setting, outcome::Outcome};

/// How long an answer may be silent before somebody is told why that may be.
const HINT: Duration = Duration::from_secs(5);

/// How long it may be silent at all.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// Options of `rbee attach`.
#[derive(Debug, Args)]
pub struct Attach {
    /// The job's id.
    job: JobId,
    /// Whose job it is.
    #[arg(long, default_value = "default", value_name = "NAME")]
    tenant: Tenant,
}

impl Attach {
    pub(crate) async fn run(self, setting: Setting) -> Result<(), Outcome> {
        let bus = setting.bus("cli/attach").await?;
        let mut output = bus.follow(&self.tenant, &self.job).await?;
        match print(&mut output, &setting).await? {
            Printed::Done => Ok(()),
            Printed::Failed(failure) => Err(Outcome::job(&failure)),
        }
    }
}

/// How an answer ended.
pub(super) enum Printed {
    Done,
    Failed(Failure),
}

/// Prints an answer as it comes: its text, or its chunks as JSON lines.
pub(super) async fn print(output: &mut Follow, setting: &Setting) -> Result<Printed, Outcome> {
    let (json, patience) = (setting.json, setting.patience(PATIENCE));
    let step = HINT.min(patience);
    let mut silent = Duration::ZERO;
    loop {
        let committed = match output.next(step).await {
            Ok(Some(committed)) => committed,
            Ok(None) => return Ok(Printed::Done),
            Err(FollowError::TimedOut(_)) if silent + step < patience => {
                if silent.is_zero() && std::io::stderr().is_terminal() {
                    eprintln!("rbee: no word yet; `rbee ps` and `rbee events --since 1m` tell what is going on");
                }
                silent += step;
                continue;
            }
            Err(error) => return Err(Outcome::unavailable(error)),
        };
        silent = Duration::ZERO;
        if json {
            println!("{}", serde_json::to_string(&committed.chunk).map_err(Outcome::failed)?);
        }
        match committed.chunk {
            Chunk::Started { .. } | Chunk::Resumed { .. } | Chunk::Paused { .. } => {}
            Chunk::Tokens { text, .. } if !json => {
                print!("{text}");
                // A reader that is gone is noticed at the next line.
                let _ = std::io::stdout().flush();
            }
            Chunk::Tokens { .. } => {}
            Chunk::Done { .. } => {
                if !json {
                    println!();
                }
                return Ok(Printed::Done);
            }
            Chunk::Error { error } => return Ok(Printed::Failed(error)),
        }
    }
}
