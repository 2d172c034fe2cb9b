//! What a job answers: chunks, appended in order to `rbee.tok.<tenant>.<job>` and republished as `rbee.out...`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Failure, HiveName, ModelName, WorkerName};

/// One appended piece of a job's output.
///
/// A job's output is `started`, any number of `tokens` (and of `resumed`, where a worker was lost or has paused), then
/// one of `done` or `error`, after which nothing comes. Token indices count the answer's tokens from 0 and never repeat or skip.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Chunk {
    /// A worker has taken the job.
    Started {
        /// The model that answers.
        model: ModelName,
        /// Where it runs.
        hive: HiveName,
        /// Which worker it is.
        worker: WorkerName,
        /// The seed of its random draws: the request's, or one that was drawn for it.
        seed: u64,
        /// Tokens of the rendered prompt.
        prompt_tokens: u32,
    },
    /// Another worker goes on where the last one stopped.
    Resumed {
        /// Where it runs.
        hive: HiveName,
        /// Which worker it is.
        worker: WorkerName,
        /// The delivery that it works on, from 2 up.
        attempt: u64,
        /// The index of the next token.
        index: u32,
    },
    /// Its worker has given it back in good order, and another goes on. Without this word before a `resumed` the worker
    /// before was lost.
    Paused {
        /// The index of the next token.
        index: u32,
    },
    /// Tokens of the answer.
    Tokens {
        /// The index of the first of them.
        index: u32,
        /// Their ids in the model's vocabulary.
        ids: Vec<u32>,
        /// The text that is certain now. It may lag behind the ids: a character is never split, and what could become
        /// a stop string is held back.
        text: String,
    },
    /// The answer is complete.
    Done {
        /// How many tokens were made.
        index: u32,
        /// Why it ended.
        finish_reason: FinishReason,
        /// What it took.
        usage: Usage,
    },
    /// There will be no (further) answer.
    Error {
        /// Why.
        error: Failure,
    },
}

impl Chunk {
    /// Whether nothing comes after it.
    pub fn is_last(&self) -> bool {
        match self {
            Self::Done { .. } | Self::Error { .. } => true,
            Self::Started { .. } | Self::Resumed { .. } | Self::Paused { .. } | Self::Tokens { .. } => false,
        }
    }
}

/// Why an answer ended (the words of the OpenAI API).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended it, or a stop string was met.
    Stop,
    /// The limit of tokens was reached.
    Length,
}

/// Tokens counted for a job (the names of the OpenAI API).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// Tokens of the rendered prompt.
    pub prompt_tokens: u32,
    /// Tokens of the answer.
    pub completion_tokens: u32,
    /// Both together.
    pub total_tokens: u32,
}

impl Usage {
    /// Counts a prompt and its answer.
    pub fn new(prompt_tokens: u32, completion_tokens: u32) -> Self {
        Self { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens }
    }
}
