//! What a job answers: chunks, appended in order to `rbee.tok.<tenant>.<job>` and republished as `rbee.out...`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Failure, HiveName, ModelName, ToolCall, WorkerName};

/// One appended piece of a job's output.
///
/// A job's output is `started`, any number of `tokens` (and of `resumed`, where a worker was lost or has paused), then
/// one of `done` or `error`, after which nothing comes. Token indices count the answer's tokens from 0 and never repeat or skip.
/// Where vectors were asked for, `embeddings` stand in the place of `tokens`, and indices count the inputs.
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
        /// The seed of its random draws: the request's, or one that was drawn for it; 0 where nothing is drawn.
        seed: u64,
        /// Tokens of the rendered prompt, or of all inputs.
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
        /// The index of the next token or input.
        index: u32,
    },
    /// Its worker has given it back in good order, and another goes on. Without this word before a `resumed` the worker
    /// before was lost.
    Paused {
        /// The index of the next token or input.
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
        /// What the model thought there, before it answered; certain as `text` is.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reasoning: String,
        /// Calls of tools that are complete there. What they were read from is in no text.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        calls: Vec<ToolCall>,
        /// How probable each of them was; empty where nobody has asked for it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        logprobs: Vec<TokenLogprob>,
    },
    /// Vectors of inputs, in their order, one in one of the two lists for each.
    Embeddings {
        /// The index of the first of these inputs.
        index: u32,
        /// The vectors, as numbers.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        vectors: Vec<Vec<f32>>,
        /// The vectors, as 32-bit floats, little-endian, in base64: where that was asked for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        base64: Vec<String>,
    },
    /// The answer is complete.
    Done {
        /// How many tokens were made, or inputs answered.
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
    /// Tokens and their text, with nothing besides.
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

    /// Whether nothing comes after it.
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

/// How probable a token was, by the model alone: before temperature, penalties, biases and whatever else was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TokenLogprob {
    /// The token.
    pub token: TokenScore,
    /// The likeliest tokens there, as many as were asked for, likeliest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<TokenScore>,
}

/// A token with its probability.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TokenScore {
    /// Its id in the model's vocabulary.
    pub id: u32,
    /// Its text; U+FFFD stands for bytes that are none by themselves. Empty for a control token.
    pub text: String,
    /// Its bytes, where the text does not tell them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bytes: Vec<u8>,
    /// The natural logarithm of its probability.
    pub logprob: f32,
}

impl TokenScore {
    /// A token that stands for `bytes`.
    pub fn new(id: u32, bytes: &[u8], logprob: f32) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self { id, text: text.to_owned(), bytes: Vec::new(), logprob },
            Err(_) => Self { id, text: String::from_utf8_lossy(bytes).into_owned(), bytes: bytes.to_vec(), logprob },
        }
    }

    /// What it stands for: any part of a text, not always whole characters.
    pub fn bytes(&self) -> &[u8] {
        if self.bytes.is_empty() { self.text.as_bytes() } else { &self.bytes }
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
    /// The model ended it, and called tools.
    ToolCalls,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scored_token_keeps_its_bytes_whether_they_are_text_or_not() {
        for bytes in [" bee".as_bytes(), b"\xE2\x82", b"", "\u{FFFD}".as_bytes()] {
            let json = serde_json::to_string(&TokenScore::new(7, bytes, -0.5)).expect("serializes");
            let read: TokenScore = serde_json::from_str(&json).expect("reads");
            assert_eq!(read.bytes(), bytes, "{json}");
            assert_eq!(json.contains("bytes"), std::str::from_utf8(bytes).is_err(), "{json}");
        }
    }

    #[test]
    fn tokens_without_anything_besides_are_written_as_ever() {
        let chunk = Chunk::tokens(3, vec![1, 2], "a");
        let json = r#"{"type":"tokens","index":3,"ids":[1,2],"text":"a"}"#;
        assert_eq!(serde_json::to_string(&chunk).expect("serializes"), json);
        assert_eq!(serde_json::from_str::<Chunk>(json).expect("reads"), chunk);
    }
}
