//! `rbee attach`: the output of a job.

use std::{
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use clap::Args;
use rbee_nats::{OutputReadError, OutputReader};
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
        let mut output = bus.read_output(&self.tenant, &self.job).await?;
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

/// How long somebody waits for the next chunk, and whether that was explained.
pub(super) struct Waiting {
    patience: Duration,
    silent: Duration,
}

impl Waiting {
    pub(super) fn of(setting: &Setting) -> Self {
        Self { patience: setting.patience(PATIENCE), silent: Duration::ZERO }
    }
}

/// The next chunk of an answer; `None` behind its last. Silence is explained once.
pub(super) async fn next(output: &mut OutputReader, waiting: &mut Waiting) -> Result<Option<Chunk>, Outcome> {
    let step = HINT.min(waiting.patience);
    loop {
        match output.next(step).await {
            Ok(committed) => {
                waiting.silent = Duration::ZERO;
                return Ok(committed.map(|committed| committed.chunk));
            }
            Err(OutputReadError::TimedOut(_)) if waiting.silent + step < waiting.patience => {
                if waiting.silent.is_zero() && std::io::stderr().is_terminal() {
                    eprintln!("rbee: no word yet; `rbee ps` and `rbee events --since 1m` tell what is going on");
                }
                waiting.silent += step;
            }
            Err(error) => return Err(Outcome::unavailable(error)),
        }
    }
}

/// Prints an answer as it comes: its text or its vectors, or its chunks as JSON lines.
pub(super) async fn print(output: &mut OutputReader, setting: &Setting) -> Result<Printed, Outcome> {
    let (json, mut waiting, mut is_thinking) = (setting.json, Waiting::of(setting), false);
    loop {
        let Some(chunk) = next(output, &mut waiting).await? else { return Ok(Printed::Done) };
        if json {
            println!("{}", serde_json::to_string(&chunk).map_err(Outcome::failed)?);
        }
        match chunk {
            Chunk::Started { .. } | Chunk::Resumed { .. } | Chunk::Paused { .. } => {}
            Chunk::Tokens { text, reasoning, calls, .. } if !json => {
                // What the model thinks is not what it answers.
                eprint!("{reasoning}");
                is_thinking |= !reasoning.is_empty();
                if is_thinking && !(text.is_empty() && calls.is_empty()) {
                    eprintln!("\n");
                    is_thinking = false;
                }
                print!("{text}");
                for call in calls {
                    println!("{}", serde_json::to_string(&call).map_err(Outcome::failed)?);
                }
                // A reader that is gone is noticed at the next line.
                let _ = std::io::stdout().flush();
            }
            Chunk::Embeddings { vectors, base64, .. } if !json => {
                for vector in vectors {
                    println!("{}", serde_json::to_string(&vector).map_err(Outcome::failed)?);
                }
                base64.iter().for_each(|vector| println!("{vector}"));
            }
            Chunk::Tokens { .. } | Chunk::Embeddings { .. } => {}
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
