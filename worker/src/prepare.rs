//! A job before it runs: its request, weighed against the model and against what is stored of its answer. Step 5 of a
//! job's path.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use rbee_nats::{Delivery, StoredChunk};
use rbee_schema::{Chunk, Failure, FailureCode, JobRequest, Sampling};
use tokio::task::spawn_blocking;

use crate::{
    contract::{Chat, Constraint, Sequence},
    decide::{
        answer::{Answer, Terms, released},
        form::{self, Form},
        parts::Expected,
        request::answer_limit,
        strikes::{is_out, lost_workers},
    },
    job::{Desk, ids},
    report::Identity,
};

/// Tokens at the end of a prompt in which a mark that opens a thought is found.
const MARK: usize = 16;

/// A job that can run.
pub(crate) struct Prepared {
    /// What it has answered so far.
    pub(crate) answer: Answer,
    /// What the engine is to go on with.
    pub(crate) sequence: Sequence,
    /// The first chunk that is ours to append.
    pub(crate) first: Chunk,
}

impl Desk {
    /// Reads the request and takes over what was stored.
    pub(crate) async fn prepare(&self, delivery: &Delivery, stored: &[StoredChunk]) -> Result<Prepared, Failure> {
        let request = JobRequest::from_json(delivery.body())?;
        self.check_strikes(delivery, stored)?;
        let prompt = self.text.prompt(&Chat::from(&request))?;
        let expected = self.expected(&request, &prompt);
        let prompt_tokens = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
        let limit = answer_limit(request.max_tokens, self.settings.answer_tokens, prompt_tokens, self.context)?;
        let ends = self.ends(&request);
        let grammar = form::grammar(form(&request), &expected);
        let mut answer = Answer::new(Terms {
            job: delivery.job.clone(),
            stops: request.stop.clone(),
            ends: ends.clone(),
            expected,
            prompt_tokens,
            limit,
        });

        let emitted: Vec<u32> = stored.iter().flat_map(|committed| ids(&committed.chunk)).copied().collect();
        let stored_size = stored.iter().map(|committed| released(&committed.chunk)).sum();
        answer.resume(emitted.iter().map(|id| (*id, self.text.piece(*id))), stored_size);

        let sampling = sampling(&request, stored, ends);
        let first = self.first_chunk(delivery, stored, &sampling, &answer);
        let constraint = self.constraint(grammar, &emitted).await?;
        Ok(Prepared { answer, sequence: Sequence { prompt, emitted, sampling, constraint }, first })
    }

    /// Refuses a job that has ended too many workers.
    pub(crate) fn check_strikes(&self, delivery: &Delivery, stored: &[StoredChunk]) -> Result<(), Failure> {
        let lost = lost_workers(stored.iter().map(|committed| &committed.chunk));
        if is_out(lost, !stored.is_empty(), delivery.attempt, &self.settings) {
            return Err(Failure::new(
                FailureCode::TriedTooOften,
                format!("the job was delivered {} times, and {lost} workers ended while they ran it", delivery.attempt),
            ));
        }
        Ok(())
    }

    /// What there is to tell from the answer's text.
    fn expected(&self, request: &JobRequest, prompt: &[u32]) -> Expected {
        let (mut format, offered) = (self.text.format(), request.available_tools());
        if offered.is_empty() {
            format.calls = None;
        }
        let end: Vec<u8> =
            prompt[prompt.len().saturating_sub(MARK)..].iter().flat_map(|id| self.text.piece(*id)).copied().collect();
        Expected {
            format,
            in_thought: format.begins_in_thought(&String::from_utf8_lossy(&end)),
            tools: offered.iter().map(|tool| tool.function.name.clone()).collect(),
            one_call: request.allows_one_call(),
        }
    }

    /// The tokens that end the answer.
    fn ends(&self, request: &JobRequest) -> Vec<u32> {
        let own = if request.ignores_eos() { Vec::new() } else { self.text.ends() };
        [own, request.stop_token_ids.clone()].concat()
    }

    /// What holds the answer to its form. Worked out on a thread that may be kept.
    async fn constraint(
        &self,
        grammar: Option<TopLevelGrammar>,
        emitted: &[u32],
    ) -> Result<Option<Box<dyn Constraint>>, Failure> {
        let Some(grammar) = grammar else { return Ok(None) };
        let (grammars, emitted) = (Arc::clone(&self.grammars), emitted.to_vec());
        let made = spawn_blocking(move || grammars.constraint(grammar, &emitted)).await;
        let panicked = |_| Failure::new(FailureCode::Internal, "the form that was asked for cannot be worked out");
        made.map_err(panicked)?.map(|constraint| Some(Box::new(constraint) as Box<dyn Constraint>))
    }

    fn first_chunk(&self, delivery: &Delivery, stored: &[StoredChunk], sampling: &Sampling, answer: &Answer) -> Chunk {
        let Identity { hive, worker, model, .. } = self.identity.clone();
        if stored.is_empty() {
            Chunk::Started { model, hive, worker, seed: sampling.seed, prompt_tokens: answer.prompt_tokens() }
        } else {
            Chunk::Resumed { hive, worker, attempt: delivery.attempt, index: answer.index() }
        }
    }
}

/// How tokens are chosen: with the seed that the job was begun with.
fn sampling(request: &JobRequest, stored: &[StoredChunk], ends: Vec<u32>) -> Sampling {
    let seed = stored.iter().find_map(|committed| match committed.chunk {
        Chunk::Started { seed, .. } => Some(seed),
        _ => None,
    });
    let sampling = request.sampling(seed.unwrap_or_else(draw_seed));
    if sampling.min_tokens > 0 { Sampling { eos_tokens: ends, ..sampling } } else { sampling }
}

/// What form the answer is to have.
fn form(request: &JobRequest) -> Form<'_> {
    let demanded = request.required_tools();
    let is_call = !demanded.is_empty();
    let tools = if is_call { demanded } else { request.available_tools().iter().collect() };
    Form { shape: request.output_format(), tools, is_call }
}

/// A seed for a job that names none. JSON numbers are exact up to 2^53, and some readers know no larger ones.
fn draw_seed() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0 >> 11
}
