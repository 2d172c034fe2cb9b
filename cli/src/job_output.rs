//! Output of a job, read chunk by chunk. `run`, `attach` and `embed` share it.

use std::{
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use rbee_nats::{OutputReadError, OutputReader};
use rbee_schema::{Chunk, Failure};

use crate::{Context, error::CliError};

/// Time without output after which a hint is printed. Most answers begin sooner; loading a model takes longer.
const HINT: Duration = Duration::from_secs(5);

/// Longest time without output, without `--patience`. A large model on a slow disk takes up to 15 min to load.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// End of a job's output.
pub(crate) enum JobEnd {
    /// The job was answered.
    Done,
    /// The job failed.
    Failed(Failure),
}

/// Time without output so far, and the longest that is accepted.
pub(crate) struct Idle {
    patience: Duration,
    elapsed: Duration,
}

impl Idle {
    pub(crate) fn new(context: &Context) -> Self {
        Self { patience: context.patience(PATIENCE), elapsed: Duration::ZERO }
    }
}

/// Reads the next chunk of a job; none after the last. Prints a hint once if none comes for a while.
///
/// # Errors
/// No chunk comes for `--patience`, or the bus is away.
pub(crate) async fn next_chunk(output: &mut OutputReader, idle: &mut Idle) -> Result<Option<Chunk>, CliError> {
    let step = HINT.min(idle.patience);
    loop {
        match output.next(step).await {
            Ok(committed) => {
                idle.elapsed = Duration::ZERO;
                return Ok(committed.map(|committed| committed.chunk));
            }
            Err(OutputReadError::TimedOut(_)) if idle.elapsed + step < idle.patience => {
                if idle.elapsed.is_zero() && std::io::stderr().is_terminal() {
                    eprintln!("rbee: no output yet; see `rbee ps` and `rbee events --since 1m` for what is happening");
                }
                idle.elapsed += step;
            }
            Err(error) => return Err(CliError::unavailable(error)),
        }
    }
}

/// Prints an answer as it arrives: its text or vectors, or its chunks as JSON lines with `--json`.
///
/// # Errors
/// No chunk comes for `--patience`, or the bus is away.
pub(crate) async fn print_answer(output: &mut OutputReader, context: &Context) -> Result<JobEnd, CliError> {
    let mut idle = Idle::new(context);
    let mut text = TextPrinter::default();
    while let Some(chunk) = next_chunk(output, &mut idle).await? {
        if context.json {
            println!("{}", serde_json::to_string(&chunk).map_err(CliError::failed)?);
        } else {
            text.print(&chunk)?;
        }
        match chunk {
            Chunk::Done { .. } => return Ok(JobEnd::Done),
            Chunk::Error { error } => return Ok(JobEnd::Failed(error)),
            Chunk::Started { .. }
            | Chunk::Resumed { .. }
            | Chunk::Paused { .. }
            | Chunk::Tokens { .. }
            | Chunk::Embeddings { .. } => {}
        }
    }
    Ok(JobEnd::Done)
}

/// Prints chunks as text for people.
#[derive(Default)]
struct TextPrinter {
    /// True while the last printed text is reasoning.
    in_reasoning: bool,
}

impl TextPrinter {
    fn print(&mut self, chunk: &Chunk) -> Result<(), CliError> {
        match chunk {
            Chunk::Tokens { text, reasoning, calls, .. } => {
                // Reasoning is no part of the answer.
                eprint!("{reasoning}");
                self.in_reasoning |= !reasoning.is_empty();
                if self.in_reasoning && !(text.is_empty() && calls.is_empty()) {
                    eprintln!("\n");
                    self.in_reasoning = false;
                }
                print!("{text}");
                for call in calls {
                    println!("{}", serde_json::to_string(call).map_err(CliError::failed)?);
                }
                // A closed pipe is noticed at the next line.
                let _ = std::io::stdout().flush();
            }
            Chunk::Embeddings { vectors, base64, .. } => {
                for vector in vectors {
                    println!("{}", serde_json::to_string(vector).map_err(CliError::failed)?);
                }
                base64.iter().for_each(|vector| println!("{vector}"));
            }
            Chunk::Done { .. } => println!(),
            Chunk::Started { .. } | Chunk::Resumed { .. } | Chunk::Paused { .. } | Chunk::Error { .. } => {}
        }
        Ok(())
    }
}
