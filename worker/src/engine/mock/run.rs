//! Sequences and steps of the mock engine.

use std::{
    thread,
    time::{Duration, Instant},
};

use rbee_schema::{Failure, FailureCode, Sampling};

use super::{
    fault::AttemptKind,
    settings::JobSettings,
    vocabulary::{self, EOS},
};
use crate::{
    contract::{Constraint, Engine, EngineStats, Sequence, SequenceId},
    engine::{
        admission::{check_admission, context_filled},
        choose::choose,
    },
    sample::Token,
};

/// The engine of `mock:` models.
pub(super) struct MockEngine {
    defaults: JobSettings,
    slots: u32,
    context: u32,
    /// Admitted sequences, in the order of their admission.
    running: Vec<Running>,
    stats: EngineStats,
}

struct Running {
    id: SequenceId,
    settings: JobSettings,
    attempt: AttemptKind,
    sampling: Sampling,
    constraint: Option<Box<dyn Constraint>>,
    /// Prompt, then answer.
    tokens: Vec<u32>,
    /// Index of the next token.
    index: u32,
}

impl MockEngine {
    pub(super) fn new(defaults: JobSettings, slots: u32, context: u32) -> Self {
        Self { defaults, slots, context, running: Vec::new(), stats: EngineStats::default() }
    }
}

impl Engine for MockEngine {
    fn admit(&mut self, id: SequenceId, sequence: Sequence) -> Result<(), Failure> {
        let admitted = self.running.iter().map(|running| running.id);
        check_admission(id, &sequence, admitted, self.slots, self.context)?;
        if sequence.prompt.iter().chain(&sequence.emitted).any(|&token| token >= vocabulary::SIZE) {
            return Err(Failure::new(
                FailureCode::Internal,
                "a token of the sequence is not in the vocabulary of the mock engine",
            ));
        }
        let settings = self.defaults.clone().overridden_by(&vocabulary::last_user_message(&sequence.prompt))?;
        let Sequence { prompt, emitted, sampling, constraint } = sequence;
        self.stats.prompt_tokens += (prompt.len() + emitted.len()) as u64;
        self.running.push(Running {
            id,
            settings,
            attempt: if emitted.is_empty() { AttemptKind::First } else { AttemptKind::Resumed },
            // The seed alone determines the tokens. All other sampling parameters apply.
            sampling: Sampling { temperature: 0.0, ..sampling },
            constraint,
            index: emitted.len() as u32,
            tokens: [prompt, emitted].concat(),
        });
        Ok(())
    }

    fn step(&mut self) -> Vec<(SequenceId, Result<Token, Failure>)> {
        let started = Instant::now();
        if self.running.is_empty() {
            return Vec::new();
        }
        let interval = self.running.iter().map(|running| running.settings.interval).max();
        thread::sleep(interval.unwrap_or(Duration::ZERO));
        let context = self.context;
        let made: Vec<_> = self.running.iter_mut().map(|running| (running.id, running.advance(context))).collect();
        self.running.retain(|running| made.iter().all(|(id, token)| *id != running.id || token.is_ok()));
        self.stats.answer_tokens += made.iter().filter(|(_, token)| token.is_ok()).count() as u64;
        self.stats.steps += 1;
        self.stats.busy += started.elapsed();
        made
    }

    fn release(&mut self, id: SequenceId) {
        self.running.retain(|running| running.id != id);
    }

    fn stats(&self) -> EngineStats {
        let cached_tokens = self.running.iter().map(|running| running.tokens.len() as u64).sum();
        EngineStats { sequences: self.running.len() as u32, cached_tokens, ..self.stats }
    }
}

impl Running {
    fn advance(&mut self, context: u32) -> Result<Token, Failure> {
        if let Some(fault) = self.settings.fault.filter(|fault| fault.occurs(self.index, self.attempt)) {
            return Err(fault.inject(self.settings.oom_limit));
        }
        if self.tokens.len() >= context as usize {
            return Err(context_filled(context));
        }
        let (index, seed) = (self.index, self.sampling.seed);
        let likeliest = match &self.settings.echo {
            Some(text) => text.as_bytes().get(index as usize).map_or(EOS, |byte| u32::from(*byte)),
            None if index >= self.settings.tokens => EOS,
            None => vocabulary::token(seed, index),
        };
        let logits = vocabulary::logits(seed, index, likeliest);
        let token = choose(&logits, &self.tokens, &self.sampling, self.constraint.as_deref_mut(), index)?;
        self.tokens.push(token.id);
        self.index += 1;
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use rbee_schema::{JobRequest, Message, Role};

    use super::*;
    use crate::{
        contract::{Chat, Text},
        engine::mock::vocabulary::Vocabulary,
    };

    fn engine(context: u32) -> MockEngine {
        MockEngine::new(JobSettings { tokens: 5, ..JobSettings::default() }, 2, context)
    }

    fn sequence(content: &str, emitted: &[u32]) -> Sequence {
        let chat = [Message::new(Role::User, content)];
        let prompt = Vocabulary::default().prompt(&Chat::new(&chat)).expect("renders");
        Sequence { emitted: emitted.to_vec(), ..Sequence::new(prompt, JobRequest::default().sampling(9)) }
    }

    /// Runs one sequence to its end.
    fn answer(sequence: Sequence) -> Vec<u32> {
        let mut engine = engine(1_000);
        engine.admit(SequenceId(1), sequence).expect("admitted");
        let tokens = std::iter::from_fn(|| engine.step().pop()).map(|(_, token)| token.expect("no fault").id);
        tokens.take_while(|&token| token != EOS).collect()
    }

    #[test]
    fn answer_ends_after_its_configured_length() {
        assert_eq!(answer(sequence("Hi", &[])).len(), 5);
        assert_eq!(answer(sequence("mock: tokens=9", &[])).len(), 9);
        assert_eq!(answer(sequence("mock: echo\nHi\n", &[])), [b'H', b'i', b'\n'].map(u32::from));
    }

    #[test]
    fn resumed_answer_equals_the_uninterrupted_one() {
        let whole = answer(sequence("mock: tokens=20", &[]));
        for done in 0..20 {
            assert_eq!(answer(sequence("mock: tokens=20 crash=0", &whole[..done.max(1)])), whole[done.max(1)..]);
        }
    }

    #[test]
    fn sequences_advance_together_and_independently() {
        let alone = answer(sequence("mock: tokens=4", &[]));
        let mut engine = engine(1_000);
        engine.admit(SequenceId(1), sequence("Hi", &[])).expect("admitted");
        engine.step();
        engine.admit(SequenceId(2), sequence("mock: tokens=4", &[])).expect("admitted");
        for expected in alone {
            let made = engine.step();
            assert_eq!(made.iter().map(|(id, _)| id.0).collect::<Vec<_>>(), [1, 2]);
            assert_eq!(made[1].1.as_ref().map(|token| token.id), Ok(expected));
        }
        engine.release(SequenceId(1));
        engine.release(SequenceId(1));
        assert_eq!(engine.stats().sequences, 1);
    }

    #[test]
    fn sequence_that_cannot_be_continued_is_refused() {
        let mut engine = engine(10);
        let refusal =
            |engine: &mut MockEngine, id, sequence| engine.admit(SequenceId(id), sequence).map_err(|f| f.code);
        assert_eq!(refusal(&mut engine, 1, sequence("Hi", &[])), Ok(()));
        assert_eq!(refusal(&mut engine, 1, sequence("Hi", &[])), Err(FailureCode::Internal));
        assert_eq!(refusal(&mut engine, 2, sequence("Hello, you", &[])), Err(FailureCode::ContextExceeded));
        assert_eq!(
            refusal(&mut engine, 2, Sequence { prompt: vec![], ..sequence("", &[]) }),
            Err(FailureCode::InvalidRequest)
        );
        assert_eq!(refusal(&mut engine, 2, sequence("", &[9_999])), Err(FailureCode::Internal));
        assert_eq!(refusal(&mut engine, 2, sequence("", &[])), Ok(()));
        assert_eq!(refusal(&mut engine, 3, sequence("", &[])), Err(FailureCode::QueueFull));
    }

    #[test]
    fn sequence_that_fills_its_context_fails_once_and_is_released() {
        let mut engine = engine(6);
        engine.admit(SequenceId(1), sequence("Hi", &[])).expect("admitted");
        let made: Vec<_> = std::iter::from_fn(|| engine.step().pop())
            .map(|(_, token)| token.map(|token| token.id).map_err(|f| f.code))
            .collect();
        assert_eq!(made.len(), 3, "{made:?}");
        assert_eq!(made[2], Err(FailureCode::ContextExceeded));
        assert_eq!(engine.stats().sequences, 0);
    }

    #[test]
    fn step_takes_as_long_as_its_slowest_sequence() {
        let mut engine = engine(1_000);
        engine.admit(SequenceId(1), sequence("mock: interval=20ms", &[])).expect("admitted");
        engine.admit(SequenceId(2), sequence("mock: interval=1ms", &[])).expect("admitted");
        engine.step();
        assert!(engine.stats().busy >= Duration::from_millis(20));
        assert!(engine.stats().busy < Duration::from_secs(5));
    }
}
