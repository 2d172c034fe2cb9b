//! Output of jobs: chunks, appended in order to `rbee.tok.<tenant>.<job>` and republished on `rbee.out.<tenant>.<job>`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Failure, HiveName, ModelName, ToolCall, WorkerName};

/// Chunk: one appended piece of a job's output.
///
/// The output of a job is `started`, any number of `tokens`, and one of `done` or `error`, which is the last. If a worker
/// was lost or returned the job, `resumed` follows in between. Indices count the tokens of the answer from 0 and never
/// repeat or skip. The output of an embeddings job has `embeddings` in place of `tokens`; its indices count the inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Chunk {
    /// A worker took the job.
    Started {
        /// Model that answers.
        model: ModelName,
        /// Hive of the worker.
        hive: HiveName,
        /// Name of the worker.
        worker: WorkerName,
        /// Seed of the random draws: the seed of the request, or a drawn one. 0 for embeddings, which draw nothing.
        seed: u64,
        /// Number of tokens of the rendered prompt, or of all inputs.
        prompt_tokens: u32,
    },
    /// Another worker continues where the previous one stopped.
    Resumed {
        /// Hive of the worker.
        hive: HiveName,
        /// Name of the worker.
        worker: WorkerName,
        /// Attempt: number of this delivery of the job, from 2.
        attempt: u64,
        /// Index of the next token or input.
        index: u32,
    },
    /// The worker returned the job to the queue, and another worker will continue it. A `resumed` without a preceding
    /// `paused` means that the previous worker was lost.
    Paused {
        /// Index of the next token or input.
        index: u32,
    },
    /// Tokens of the answer.
    Tokens {
        /// Index of the first token.
        index: u32,
        /// Token ids in the model's vocabulary.
        ids: Vec<u32>,
        /// Text that is final. It may lag behind the ids: a character is never split, and text that may turn out to be
        /// the start of a stop string is held back.
        text: String,
        /// Reasoning of the model before its answer. Final, as `text` is.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reasoning: String,
        /// Tool calls that are complete. The tokens that they were parsed from are not part of any text.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        calls: Vec<ToolCall>,
        /// Log probability of each token. Empty unless the request asks for `logprobs`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        logprobs: Vec<TokenLogprob>,
    },
    /// Vectors of consecutive inputs: one entry per input, all in one of the two lists.
    Embeddings {
        /// Index of the first input.
        index: u32,
        /// Vectors as lists of numbers.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        vectors: Vec<Vec<f32>>,
        /// Vectors as 32-bit little-endian floats in base64, if the request asks for `base64`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        base64: Vec<String>,
    },
    /// The answer is complete.
    Done {
        /// Number of tokens generated, or of inputs answered.
        index: u32,
        /// Reason for the end of the answer.
        finish_reason: FinishReason,
        /// Tokens used.
        usage: Usage,
    },
    /// The job failed. Nothing follows.
    Error {
        /// Reason of the failure.
        error: Failure,
    },
}

impl Chunk {
    /// Chunk of tokens with their text and nothing else.
    pub fn tokens(index: u32, ids: Vec<u32>, text: impl Into<String>) -> Self {
        Self::Tokens {
            index,
            ids,
            text: text.into(),
            reasoning: String::new(),
            calls: Vec::new(),
            logprobs: Vec::new(),
        }
    }

    /// Index at which the chunk begins: that of its first token or input. `None` for a chunk without an index.
    pub fn index(&self) -> Option<u32> {
        match self {
            Self::Resumed { index, .. }
            | Self::Paused { index }
            | Self::Tokens { index, .. }
            | Self::Embeddings { index, .. }
            | Self::Done { index, .. } => Some(*index),
            Self::Started { .. } | Self::Error { .. } => None,
        }
    }

    /// Number of tokens or inputs in the chunk.
    pub fn count(&self) -> u32 {
        let count = match self {
            Self::Tokens { ids, .. } => ids.len(),
            Self::Embeddings { vectors, base64, .. } => vectors.len() + base64.len(),
            Self::Started { .. }
            | Self::Resumed { .. }
            | Self::Paused { .. }
            | Self::Done { .. }
            | Self::Error { .. } => 0,
        };
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// True for `done` and `error`, which end the output.
    pub fn is_last(&self) -> bool {
        match self {
            Self::Done { .. } | Self::Error { .. } => true,
            Self::Started { .. }
            | Self::Resumed { .. }
            | Self::Paused { .. }
            | Self::Tokens { .. }
            | Self::Embeddings { .. } => false,
        }
    }
}

/// Log probability of a token as the model computed it: before temperature, penalties, biases and other adjustments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TokenLogprob {
    /// The token.
    pub token: TokenScore,
    /// Most likely tokens at this position, most likely first; as many as `top_logprobs` asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<TokenScore>,
}

/// Token with its log probability.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TokenScore {
    /// Token id in the model's vocabulary.
    pub id: u32,
    /// Text of the token. U+FFFD replaces bytes that are not valid UTF-8 on their own. Empty for a control token.
    pub text: String,
    /// Bytes of the token, if they are not valid UTF-8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bytes: Vec<u8>,
    /// Natural logarithm of the probability.
    pub logprob: f32,
}

impl TokenScore {
    /// Score of the token that stands for `bytes`.
    pub fn new(id: u32, bytes: &[u8], logprob: f32) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self { id, text: text.to_owned(), bytes: Vec::new(), logprob },
            Err(_) => Self { id, text: String::from_utf8_lossy(bytes).into_owned(), bytes: bytes.to_vec(), logprob },
        }
    }

    /// Bytes that the token stands for. They are not always whole characters.
    pub fn bytes(&self) -> &[u8] {
        if self.bytes.is_empty() { self.text.as_bytes() } else { &self.bytes }
    }
}

/// Reason for the end of an answer, as in the OpenAI API, and `deadline`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended the answer, or a stop string occurred.
    Stop,
    /// The token limit was reached.
    Length,
    /// The model ended the answer and called tools.
    ToolCalls,
    /// The deadline of the job had come: the answer ends with what there was. OpenAI endpoints report `length`.
    Deadline,
}

/// Tokens used by a job, as in the OpenAI API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// Number of tokens of the rendered prompt.
    pub prompt_tokens: u32,
    /// Number of tokens of the answer.
    pub completion_tokens: u32,
    /// Sum of both.
    pub total_tokens: u32,
}

impl Usage {
    /// Usage of a prompt and its answer.
    pub fn new(prompt_tokens: u32, completion_tokens: u32) -> Self {
        Self { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_score_keeps_bytes_that_are_not_utf_8() {
        for bytes in [" bee".as_bytes(), b"\xE2\x82", b"", "\u{FFFD}".as_bytes()] {
            let json = serde_json::to_string(&TokenScore::new(7, bytes, -0.5)).expect("serializes");
            let read: TokenScore = serde_json::from_str(&json).expect("reads");
            assert_eq!(read.bytes(), bytes, "{json}");
            assert_eq!(json.contains("bytes"), std::str::from_utf8(bytes).is_err(), "{json}");
        }
    }

    #[test]
    fn empty_fields_of_tokens_are_left_out() {
        let chunk = Chunk::tokens(3, vec![1, 2], "a");
        let json = r#"{"type":"tokens","index":3,"ids":[1,2],"text":"a"}"#;
        assert_eq!(serde_json::to_string(&chunk).expect("serializes"), json);
        assert_eq!(serde_json::from_str::<Chunk>(json).expect("reads"), chunk);
    }
}
