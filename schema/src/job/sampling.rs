//! Sampling parameters.

use std::collections::BTreeMap;

/// Sampling parameters of a job, with all defaults filled in. [`JobRequest`](super::JobRequest) describes each of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Temperature. 0 always chooses the most likely token.
    pub temperature: f32,
    /// Nucleus sampling threshold, in (0, 1].
    pub top_p: f32,
    /// Number of most likely tokens to draw from. 0 for all.
    pub top_k: u32,
    /// Minimum probability relative to the most likely token, in [0, 1].
    pub min_p: f32,
    /// Repetition penalty. 1 for none.
    pub repetition_penalty: f32,
    /// Presence penalty. 0 for none.
    pub presence_penalty: f32,
    /// Frequency penalty. 0 for none.
    pub frequency_penalty: f32,
    /// Biases added to the logits of tokens, by token id.
    pub logit_bias: BTreeMap<u32, f32>,
    /// Number of most likely tokens whose log probabilities are returned beside the chosen one's. `None` to return none.
    pub logprobs: Option<u32>,
    /// Minimum number of tokens: until then none of `eos_tokens` is chosen.
    pub min_tokens: u32,
    /// End-of-sequence tokens of the model. Set if `min_tokens` is more than 0.
    pub eos_tokens: Vec<u32>,
    /// Seed of the random draws.
    pub seed: u64,
}

impl Sampling {
    /// Greedy sampling: always the most likely token.
    pub const GREEDY: Self = Self {
        temperature: 0.0,
        top_p: 1.0,
        top_k: 0,
        min_p: 0.0,
        repetition_penalty: 1.0,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        logit_bias: BTreeMap::new(),
        logprobs: None,
        min_tokens: 0,
        eos_tokens: Vec::new(),
        seed: 0,
    };
}
