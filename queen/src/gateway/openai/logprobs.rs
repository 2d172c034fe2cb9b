//! Log probabilities of tokens.

use rbee_schema::{TokenLogprob, TokenScore};
use serde::Serialize;

/// Log probabilities of the tokens of a choice.
#[derive(Debug, Serialize)]
pub(super) struct ChoiceLogprobs {
    content: Vec<ContentScore>,
    /// Log probabilities of a refusal. Always `null`: models of rbee refuse in their content.
    refusal: Option<Vec<ContentScore>>,
}

#[derive(Debug, Serialize)]
struct ContentScore {
    token: String,
    logprob: f64,
    bytes: Vec<u8>,
    top_logprobs: Vec<TopScore>,
}

#[derive(Debug, Serialize)]
struct TopScore {
    token: String,
    logprob: f64,
    bytes: Vec<u8>,
}

impl ChoiceLogprobs {
    /// `None` if no log probabilities were requested.
    pub(super) fn new(tokens: &[TokenLogprob]) -> Option<Self> {
        (!tokens.is_empty()).then(|| Self { content: tokens.iter().map(token_score).collect(), refusal: None })
    }
}

fn token_score(TokenLogprob { token, top }: &TokenLogprob) -> ContentScore {
    let TopScore { token, logprob, bytes } = top_score(token);
    ContentScore { token, logprob, bytes, top_logprobs: top.iter().map(top_score).collect() }
}

fn top_score(token: &TokenScore) -> TopScore {
    TopScore { token: token.text.clone(), logprob: f64::from(token.logprob), bytes: token.bytes().to_vec() }
}
