//! Our side: the engine, in a process that answers lines of JSON.

use std::{
    io::{self, BufRead, Write},
    time::Instant,
};

use rbee_schema::{Failure, FailureCode, ModelReference, Sampling};
use rbee_worker::{
    contract::{self, Engine, LoadOptions, Sequence, SequenceId},
    load,
};
use serde_json::{Value, json};

use crate::{
    sequences,
    wire::{Answer, Answered, Load, Loaded, Question, Reply, Scored},
};

/// The default sampling of most servers for chats.
fn random() -> Sampling {
    Sampling { temperature: 1.0, top_p: 0.95, top_k: 40, seed: 1, ..Sampling::GREEDY }
}

/// Answers the questions on standard input until it ends.
pub(crate) fn serve() {
    let mut ours = Ours { loaded: None };
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        let question = serde_json::from_str(&line).expect("a question");
        let reply = ours.reply(question).map_or_else(|failure| Reply::Failed(failure.to_string()), Reply::Ok);
        let line = serde_json::to_string(&reply).expect("a reply is JSON");
        writeln!(io::stdout(), "{line}").expect("standard output is open");
    }
}

struct Ours {
    loaded: Option<contract::Loaded>,
}

impl Ours {
    fn reply(&mut self, question: Question) -> Result<Value, Failure> {
        Ok(match question {
            Question::Load(load) => json!(self.load(load)?),
            Question::Answer(request) => json!(answer(self.engine()?, request)?),
            Question::Score { tokens } => json!(Scored { log_probabilities: self.engine()?.score(&tokens)? }),
            Question::Endure(request) => json!(sequences::run(self.engine()?, &request)?),
            Question::Describe {} | Question::Tokenise { .. } | Question::Weights { .. } => {
                return Err(Failure::new(FailureCode::InvalidRequest, "only llama.cpp answers this"));
            }
        })
    }

    fn load(&mut self, load: Load) -> Result<Loaded, Failure> {
        let threads = Some(load.threads as u32);
        let options =
            LoadOptions { context: Some(load.context), slots: load.sequences, threads, ..LoadOptions::default() };
        let begun = Instant::now();
        self.loaded = Some(load::load(&ModelReference::File(load.model), &options, &mut |_| {})?);
        Ok(Loaded { seconds: begun.elapsed().as_secs_f64() })
    }

    fn engine(&mut self) -> Result<&mut dyn Engine, Failure> {
        let none = || Failure::new(FailureCode::InvalidRequest, "no model is loaded");
        Ok(self.loaded.as_mut().ok_or_else(none)?.engine.as_mut())
    }
}

/// Continues all prompts together. Each sequence runs until the last one has its tokens.
fn answer(engine: &mut dyn Engine, request: Answer) -> Result<Answered, Failure> {
    let mut answers: Vec<Vec<u32>> = vec![Vec::new(); request.prompts.len()];
    let sampling = if request.drawn { random() } else { Sampling::GREEDY };
    let begun = Instant::now();
    for (id, prompt) in (0..).map(SequenceId).zip(request.prompts) {
        engine.admit(id, Sequence::new(prompt, sampling.clone()))?;
    }
    let (mut first, mut steps) = (None, 0);
    while answers.iter().any(|answer| answer.len() < request.tokens) {
        for (id, token) in engine.step() {
            answers[id.0 as usize].push(token?.id);
        }
        steps += usize::from(first.is_some());
        if first.is_none() && answers.iter().all(|answer| !answer.is_empty()) {
            first = Some((begun.elapsed().as_secs_f64(), count(&answers)));
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    (0..).map(SequenceId).zip(&answers).for_each(|(id, _)| engine.release(id));
    let (first, generated) = first.unwrap_or_default();
    Ok(Answered { first, seconds, later: count(&answers) - generated, steps, answers })
}

fn count(answers: &[Vec<u32>]) -> usize {
    answers.iter().map(Vec::len).sum()
}
