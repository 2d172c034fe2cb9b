//! What the two sides are asked and answer: lines of JSON on standard input and output. `bench/llama/serve.py` has the
//! same words.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Question {
    /// Who is there? Asked of llama.cpp; answered by [`Description`].
    Describe {},
    /// Answered by [`Loaded`].
    Load(Load),
    /// The ids of a text. Asked of llama.cpp; answered by [`Tokens`].
    Tokenise { text: String },
    /// How many bytes of a file are read for each token. Asked of llama.cpp; answered by [`Weights`].
    Weights { model: PathBuf },
    /// Answered by [`Answered`].
    Answer(Answer),
    /// The log-probability of each token but the first, given the ones before it. Answered by [`Scored`].
    Score { tokens: Vec<u32> },
    /// Asked of us. Answered by [`Endured`].
    Endure(Endure),
}

/// What is to be loaded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Load {
    pub(crate) model: PathBuf,
    pub(crate) threads: usize,
    /// Tokens that each sequence may have.
    pub(crate) context: u32,
    /// How many sequences there are at a time.
    pub(crate) sequences: u32,
    /// Whether llama.cpp maps the file or reads it.
    pub(crate) mapped: bool,
    pub(crate) attention: Attention,
}

/// How llama.cpp attends to what it has read. Each way is the faster one somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Attention {
    Flash,
    Plain,
}

/// What is to be continued, all at a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) prompts: Vec<Vec<u32>>,
    /// How many tokens each is to get, at least.
    pub(crate) tokens: usize,
    /// Tokens that each sequence may have.
    pub(crate) context: u32,
    pub(crate) attention: Attention,
    /// Whether our engine draws its tokens at random, as chats do, and does not take the likeliest ones. llama.cpp always
    /// takes the likeliest: it is as fast with them, and there is nothing that it guesses.
    pub(crate) drawn: bool,
    /// Whether llama.cpp is to go on with what it holds of the one before. Our engine decides that itself.
    pub(crate) reuse: bool,
}

/// Many sequences for a long time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Endure {
    pub(crate) seconds: u64,
    pub(crate) sequences: u32,
    /// Tokens of a text, from which prompts are cut.
    pub(crate) text: Vec<u32>,
    /// Tokens that each sequence may have.
    pub(crate) context: u32,
}

/// What a line holds that answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply<T> {
    Ok(T),
    Failed(String),
}

/// Answers [`Question::Describe`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Description {
    pub(crate) version: String,
    /// The instructions that it was built for.
    pub(crate) features: Vec<String>,
}

/// Answers [`Question::Load`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Loaded {
    pub(crate) seconds: f64,
}

/// Answers [`Question::Tokenise`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tokens {
    pub(crate) tokens: Vec<u32>,
}

/// Answers [`Question::Weights`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Weights {
    pub(crate) bytes: u64,
}

/// Answers [`Question::Answer`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Answered {
    /// Until every sequence had its first token.
    pub(crate) first: f64,
    /// Until every sequence had all tokens.
    pub(crate) seconds: f64,
    /// How many tokens were made after `first`, in all sequences.
    pub(crate) later: usize,
    /// In how many steps that was.
    pub(crate) steps: usize,
    pub(crate) answers: Vec<Vec<u32>>,
}

impl Answered {
    /// Tokens per second, once every prompt has been read.
    pub(crate) fn rate(&self) -> f64 {
        self.later as f64 / (self.seconds - self.first)
    }
}

/// Answers [`Question::Score`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Scored {
    pub(crate) log_probabilities: Vec<f32>,
}

/// Answers [`Question::Endure`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Endured {
    /// Of each sequence that was finished: until its first token.
    pub(crate) firsts: Vec<f64>,
    /// Of each: the longest time between two tokens.
    pub(crate) gaps: Vec<f64>,
    /// Tokens that were made.
    pub(crate) tokens: usize,
}
