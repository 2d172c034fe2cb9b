//! A chat before it runs: its request is checked against the model and against the stored part of its answer.

use std::sync::Arc;

use rbee_nats::StoredChunk;
use rbee_schema::{Chunk, Failure, JobId, JobRequest, Sampling};

use super::prompt_size;
use crate::{
    contract::{Chat, Constraint, Sequence, Text},
    decide::{
        answer::{Answer, AnswerSpec},
        answer_grammar::{self, Requirements},
        answer_limit::answer_limit,
        output_parser::ExpectedOutput,
        stored::{Released, token_ids},
    },
    grammar::Grammars,
};

/// Tokens at the end of a prompt that are searched for an open reasoning mark. The longest known mark is one token, or a
/// few in a vocabulary that does not have it, and white space may follow it.
const PROMPT_END_TOKENS: usize = 16;

/// The text side of the loaded model, and its limits. Cheap to clone.
#[derive(Clone)]
pub(crate) struct TextModel {
    pub(crate) text: Arc<dyn Text>,
    pub(crate) grammars: Arc<Grammars>,
    /// Context size in tokens, prompt and answer together.
    pub(crate) context: u32,
    /// Maximum tokens of an answer whose request names no limit.
    pub(crate) answer_tokens: u32,
}

impl TextModel {
    /// Reads the request of a job and replays the stored part of its answer. Returns the answer so far, and the sequence that
    /// continues it. Blocks for as long as it takes to render and tokenize the chat and to compile its grammar.
    pub(super) fn prepare(
        &self,
        job: &JobId,
        body: &[u8],
        stored: &[StoredChunk],
    ) -> Result<(Answer, Sequence), Failure> {
        let request = JobRequest::from_json(body)?;
        prompt_size::check(self.text.as_ref(), &request, self.context)?;
        let prompt = self.text.prompt(&Chat::from(&request))?;
        let expected = self.expected(&request, &prompt);
        let prompt_tokens = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
        let limit = answer_limit(request.max_tokens, self.answer_tokens, prompt_tokens, self.context)?;
        let eos_tokens = self.eos_tokens(&request);
        let grammar = answer_grammar::grammar(requirements(&request), &expected);
        let mut answer = Answer::new(AnswerSpec {
            job: job.clone(),
            stops: request.stop.clone(),
            eos_tokens: eos_tokens.clone(),
            expected,
            prompt_tokens,
            limit,
        });

        let emitted: Vec<u32> = stored.iter().flat_map(|stored| token_ids(&stored.chunk)).copied().collect();
        let released = stored.iter().map(|stored| Released::by(&stored.chunk)).sum();
        answer.resume(emitted.iter().map(|id| (*id, self.text.piece(*id))), released);

        let sampling = sampling(&request, stored, eos_tokens);
        let constraint = grammar.map(|grammar| self.grammars.constraint(grammar, &emitted)).transpose()?;
        let constraint = constraint.map(|constraint| Box::new(constraint) as Box<dyn Constraint>);
        Ok((answer, Sequence { prompt, emitted, sampling, constraint }))
    }

    /// The parts that the answer may have.
    fn expected(&self, request: &JobRequest, prompt: &[u32]) -> ExpectedOutput {
        let (mut markup, tools) = (self.text.markup(), request.available_tools());
        if tools.is_empty() {
            markup.calls = None;
        }
        let end = &prompt[prompt.len().saturating_sub(PROMPT_END_TOKENS)..];
        let end: Vec<u8> = end.iter().flat_map(|id| self.text.piece(*id)).copied().collect();
        ExpectedOutput {
            markup,
            in_reasoning: markup.begins_in_reasoning(&String::from_utf8_lossy(&end)),
            tools: tools.iter().map(|tool| tool.function.name.clone()).collect(),
            one_call: request.allows_one_call(),
        }
    }

    /// The tokens that end the answer.
    fn eos_tokens(&self, request: &JobRequest) -> Vec<u32> {
        let own = if request.ignores_eos() { Vec::new() } else { self.text.eos_tokens() };
        [own, request.stop_token_ids.clone()].concat()
    }
}

/// Sampling parameters of the request, with the seed of the first attempt.
fn sampling(request: &JobRequest, stored: &[StoredChunk], eos_tokens: Vec<u32>) -> Sampling {
    let seed = stored.iter().find_map(|stored| match stored.chunk {
        Chunk::Started { seed, .. } => Some(seed),
        _ => None,
    });
    let sampling = request.sampling(seed.unwrap_or_else(draw_seed));
    if sampling.min_tokens > 0 { Sampling { eos_tokens, ..sampling } } else { sampling }
}

/// The requirements of the request on its answer.
fn requirements(request: &JobRequest) -> Requirements<'_> {
    let required = request.required_tools();
    let must_call = !required.is_empty();
    let tools = if must_call { required } else { request.available_tools().iter().collect() };
    Requirements { format: request.output_format(), tools, must_call }
}

/// Draws a seed for a job whose request names none. At most 53 bits, because JSON numbers are exact up to 2^53 and some
/// readers know no larger ones.
fn draw_seed() -> u64 {
    fastrand::u64(..) >> 11
}
