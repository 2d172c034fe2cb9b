//! Questions to the two sides and their replies: lines of JSON on standard input and output. `bench/llama/serve.py` uses the
//! same names.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A question to a side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Question {
    /// Requests version and features. Only for llama.cpp. The reply is [`Description`].
    Describe {},
    /// Loads a model. The reply is [`Loaded`].
    Load(Load),
    /// Requests the token ids of a text. Only for llama.cpp. The reply is [`Tokens`].
    Tokenise { text: String },
    /// Requests the bytes of a file that are read for each token. Only for llama.cpp. The reply is [`Weights`].
    Weights { model: PathBuf },
    /// Continues prompts. The reply is [`Answered`].
    Answer(Answer),
    /// Requests the log-probability of each token but the first, given those before it. The reply is [`Scored`].
    Score { tokens: Vec<u32> },
    /// Keeps the engine full. Only for our side. The reply is [`Endured`].
    Endure(Endure),
}

/// A model to load, and its limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Load {
    pub(crate) model: PathBuf,
    pub(crate) threads: usize,
    /// Context of each sequence, in tokens.
    pub(crate) context: u32,
    /// Number of concurrent sequences.
    pub(crate) sequences: u32,
    /// True if llama.cpp maps the file, false if it reads it.
    pub(crate) mapped: bool,
    pub(crate) attention: Attention,
}

/// Implementation of attention in llama.cpp. Each one is the faster one in some workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Attention {
    Flash,
    Plain,
}

/// Prompts to continue concurrently.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) prompts: Vec<Vec<u32>>,
    /// Minimum number of tokens of each answer.
    pub(crate) tokens: usize,
    /// Context of each sequence, in tokens.
    pub(crate) context: u32,
    pub(crate) attention: Attention,
    /// True if our engine samples its tokens at random, as chats do, instead of taking the most likely ones. llama.cpp always
    /// takes the most likely: it has no speculative decoding, so its speed is the same.
    pub(crate) drawn: bool,
    /// True if llama.cpp keeps the KV cache of the previous question. Our engine decides that itself.
    pub(crate) reuse: bool,
}

/// Request to run many sequences for a long time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Endure {
    pub(crate) seconds: u64,
    pub(crate) sequences: u32,
    /// Tokens of a text from which prompts are cut.
    pub(crate) text: Vec<u32>,
    /// Context of each sequence, in tokens.
    pub(crate) context: u32,
}

/// The reply in a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply<T> {
    Ok(T),
    Failed(String),
}

/// Reply to [`Question::Describe`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Description {
    pub(crate) version: String,
    /// Instruction sets of the build.
    pub(crate) features: Vec<String>,
}

/// Reply to [`Question::Load`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Loaded {
    pub(crate) seconds: f64,
}

/// Reply to [`Question::Tokenise`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tokens {
    pub(crate) tokens: Vec<u32>,
}

/// Reply to [`Question::Weights`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Weights {
    pub(crate) bytes: u64,
}

/// Reply to [`Question::Answer`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Answered {
    /// Seconds until every sequence had its first token.
    pub(crate) first: f64,
    /// Seconds until every sequence had all tokens.
    pub(crate) seconds: f64,
    /// Number of tokens of all sequences after `first`.
    pub(crate) later: usize,
    /// Number of steps after `first`.
    pub(crate) steps: usize,
    pub(crate) answers: Vec<Vec<u32>>,
}

impl Answered {
    /// Tokens per second after all prompts were read.
    pub(crate) fn rate(&self) -> f64 {
        self.later as f64 / (self.seconds - self.first)
    }
}

/// Reply to [`Question::Score`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Scored {
    pub(crate) log_probabilities: Vec<f32>,
}

/// Reply to [`Question::Endure`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Endured {
    /// Seconds to the first token of each finished sequence.
    pub(crate) firsts: Vec<f64>,
    /// Longest pause between two tokens of each finished sequence, in seconds.
    pub(crate) gaps: Vec<f64>,
    /// Number of generated tokens.
    pub(crate) tokens: usize,
}
