//! The engine alone, in this process: the time of a job without a bus.

use std::time::{Duration, Instant};

use rbee_schema::{JobRequest, ModelReference};
use rbee_worker::{
    contract::{Chat, LoadOptions, Loaded, Sequence, SequenceId},
    load::load,
};

/// An engine in this process.
pub(crate) struct Alone {
    loaded: Loaded,
    next: u64,
}

/// Times of an answer, from the moment at which the engine got the chat.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Computed {
    /// Time of the first token.
    pub(crate) first_token: Duration,
    /// Tokens per second from the first to the last; `None` for a single token.
    pub(crate) rate: Option<f64>,
    /// Ids of the tokens.
    pub(crate) ids: Vec<u32>,
}

impl Alone {
    /// Loads a model.
    pub(crate) fn load(reference: &ModelReference) -> Self {
        let options = LoadOptions { context: None, slots: 1, ..LoadOptions::default() };
        let loaded = load(reference, &options, &mut |_| {}).unwrap_or_else(|failure| panic!("{failure}"));
        Self { loaded, next: 0 }
    }

    /// Answers a chat. It blocks until the answer is complete.
    pub(crate) fn answer(&mut self, request: &JobRequest) -> Computed {
        let Loaded { engine, text, .. } = &mut self.loaded;
        let ends = text.eos_tokens();
        let limit = request.max_tokens.unwrap_or(u32::MAX) as usize;
        let id = SequenceId(self.next);
        self.next += 1;
        let begun = Instant::now();
        let prompt = text.prompt(&Chat::from(request)).expect("the chat is valid");
        let sequence = Sequence::new(prompt, request.sampling(0));
        engine.admit(id, sequence).expect("the engine is free");
        let (mut ids, mut first, mut last) = (Vec::new(), Duration::ZERO, Duration::ZERO);
        'answer: while ids.len() < limit {
            for (_, token) in engine.step() {
                let token = token.expect("the engine generates tokens");
                if ends.contains(&token.id) {
                    break 'answer;
                }
                ids.push(token.id);
                last = begun.elapsed();
                if ids.len() == 1 {
                    first = last;
                }
            }
        }
        engine.release(id);
        let rate = (last > first).then(|| (ids.len() - 1) as f64 / (last - first).as_secs_f64());
        Computed { first_token: first, rate, ids }
    }
}
