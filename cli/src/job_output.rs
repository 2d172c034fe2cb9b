//! Output of a job, read chunk by chunk. `run`, `attach` and `embed` share it.

use std::{io, time::Duration};

use rbee_nats::{OutputReadError, OutputReader};
use rbee_schema::{Chunk, Failure, FinishReason};
use serde::Serialize;

use crate::{Context, error::CliError, output, waiting::Waiting};

/// Time without output after which a line says where the job waits. Most answers begin sooner; loading a model takes longer.
const SOON: Duration = Duration::from_secs(1);

/// Longest time without output, without `--patience`. A large model on a slow disk takes up to 15 min to load.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// End of a job's output.
pub(crate) enum JobEnd {
    /// The job was answered.
    Done,
    /// The job failed.
    Failed(Failure),
    /// The answer cannot be written: its reader has ended, or the disk is full. Holds the error of the verb.
    Unwritten(CliError),
}

/// Time without output so far, the longest that is accepted, and what is shown meanwhile.
pub(crate) struct Idle {
    patience: Duration,
    elapsed: Duration,
    waiting: Waiting,
}

impl Idle {
    pub(crate) fn new(context: &Context, waiting: Waiting) -> Self {
        Self { patience: context.patience(PATIENCE), elapsed: Duration::ZERO, waiting }
    }
}

/// Reads the next chunk of a job; none after the last. Shows where the job waits if none comes for a while.
///
/// # Errors
/// No chunk comes for `--patience`, or the bus is away.
pub(crate) async fn next_chunk(chunks: &mut OutputReader, idle: &mut Idle) -> Result<Option<Chunk>, CliError> {
    let step = SOON.min(idle.patience);
    loop {
        match chunks.next(step).await {
            Ok(committed) => {
                idle.elapsed = Duration::ZERO;
                idle.waiting.end().await;
                return Ok(committed.map(|committed| committed.chunk));
            }
            Err(OutputReadError::TimedOut(_)) if idle.elapsed + step < idle.patience => {
                idle.waiting.begin();
                idle.elapsed += step;
            }
            Err(error) => {
                idle.waiting.end().await;
                return Err(CliError::unavailable(match error {
                    OutputReadError::TimedOut(_) => OutputReadError::TimedOut(idle.patience),
                    other => other,
                }));
            }
        }
    }
}

/// Prints an answer as it arrives: its text or vectors, or its chunks as JSON lines with `--json`.
///
/// # Errors
/// No chunk comes for `--patience`, or the bus is away.
pub(crate) async fn print_answer(
    chunks: &mut OutputReader,
    context: &Context,
    waiting: Waiting,
) -> Result<JobEnd, CliError> {
    let mut idle = Idle::new(context, waiting);
    let mut text = TextPrinter::default();
    while let Some(chunk) = next_chunk(chunks, &mut idle).await? {
        let printed = if context.json { print_json(&chunk) } else { text.print(&chunk) };
        if let Err(error) = printed {
            return Ok(JobEnd::Unwritten(CliError::unwritten(&error)));
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

/// Prints a document as one line of JSON. Only our own documents are printed, and JSON can represent all of them.
fn print_json(document: &impl Serialize) -> io::Result<()> {
    output::try_print(format_args!("{}\n", serde_json::to_string(document).unwrap_or_default()))
}

/// Prints chunks as text for people.
#[derive(Default)]
struct TextPrinter {
    /// True while the last printed text is reasoning.
    in_reasoning: bool,
}

impl TextPrinter {
    fn print(&mut self, chunk: &Chunk) -> io::Result<()> {
        match chunk {
            Chunk::Tokens { text, reasoning, calls, .. } => {
                // Reasoning is no part of the answer.
                eprint!("{reasoning}");
                self.in_reasoning |= !reasoning.is_empty();
                if self.in_reasoning && !(text.is_empty() && calls.is_empty()) {
                    eprintln!("\n");
                    self.in_reasoning = false;
                }
                output::try_print(format_args!("{text}"))?;
                calls.iter().try_for_each(print_json)
            }
            Chunk::Embeddings { vectors, base64, .. } => {
                vectors.iter().try_for_each(print_json)?;
                base64.iter().try_for_each(|vector| output::try_print(format_args!("{vector}\n")))
            }
            Chunk::Done { finish_reason, .. } => {
                output::try_print(format_args!("\n"))?;
                if *finish_reason == FinishReason::Deadline {
                    eprintln!("rbee: the deadline of the job has come: the answer is not complete");
                }
                Ok(())
            }
            Chunk::Started { .. } | Chunk::Resumed { .. } | Chunk::Paused { .. } | Chunk::Error { .. } => Ok(()),
        }
    }
}
