//! How tokens are chosen.

use std::collections::BTreeMap;

/// How the next token is chosen; every field set. See [`super::JobRequest`] for the meaning of each.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0 for the likeliest token.
    pub temperature: f32,
    /// In (0, 1].
    pub top_p: f32,
    /// 0 for all.
    pub top_k: u32,
    /// In [0, 1].
    pub min_p: f32,
    /// 1 for none.
    pub repetition_penalty: f32,
    /// 0 for none.
    pub presence_penalty: f32,
    /// 0 for none.
    pub frequency_penalty: f32,
    /// What is added to the logits of single tokens.
    pub logit_bias: BTreeMap<u32, f32>,
    /// `None` where nobody asks for the probability of a token, else of how many others besides.
    pub logprobs: Option<u32>,
    /// Before the answer has so many tokens, none of `eos_tokens` is taken.
    pub min_tokens: u32,
    /// The tokens that would end the answer, where `min_tokens` is more than 0. The model knows them, not the request.
    pub eos_tokens: Vec<u32>,
    /// Of the random draws.
    pub seed: u64,
}

impl Sampling {
    /// The likeliest token, always.
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
