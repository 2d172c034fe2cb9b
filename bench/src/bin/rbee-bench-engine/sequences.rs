//! Many sequences of mixed lengths for a long time: each finished sequence is replaced by the next one.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rbee_schema::{Failure, Sampling};
use rbee_worker::contract::{Engine, Sequence, SequenceId};

use crate::wire::{Endure, Endured};

/// A running sequence.
struct Running {
    /// Number of tokens that are left to generate.
    left: usize,
    begun: Instant,
    /// Time of the last token.
    last: Option<Instant>,
    /// Time to the first token.
    first: Duration,
    /// Longest pause between two tokens.
    gap: Duration,
}

/// Keeps the engine full until the time is over. The result has the finished sequences.
pub(crate) fn run(engine: &mut dyn Engine, request: &Endure) -> Result<Endured, Failure> {
    let (mut running, mut endured) = (BTreeMap::new(), Endured::default());
    let end = Instant::now() + Duration::from_secs(request.seconds);
    let mut next = 0;
    while Instant::now() < end {
        while running.len() < request.sequences as usize {
            let (prompt, left) = piece(request, next);
            engine.admit(SequenceId(next), Sequence::new(prompt, Sampling::GREEDY))?;
            running.insert(next, Running::new(left));
            next += 1;
        }
        for (SequenceId(id), token) in engine.step() {
            token?;
            endured.tokens += 1;
            let sequence = running.get_mut(&id).expect("only admitted sequences generate tokens");
            sequence.add_token();
            if sequence.left == 0 {
                engine.release(SequenceId(id));
                endured.firsts.push(sequence.first.as_secs_f64());
                endured.gaps.push(sequence.gap.as_secs_f64());
                running.remove(&id);
            }
        }
    }
    running.into_keys().for_each(|id| engine.release(SequenceId(id)));
    Ok(endured)
}

impl Running {
    fn new(left: usize) -> Self {
        Self { left, begun: Instant::now(), last: None, first: Duration::ZERO, gap: Duration::ZERO }
    }

    fn add_token(&mut self) {
        let now = Instant::now();
        match self.last {
            None => self.first = now - self.begun,
            Some(last) => self.gap = self.gap.max(now - last),
        }
        self.last = Some(now);
        self.left = self.left.saturating_sub(1);
    }
}

/// Prompt and number of tokens of the `number`-th sequence. Most are short, and some fill the context. Multiples of coprime
/// numbers give a mix that is the same in every run.
fn piece(request: &Endure, number: u64) -> (Vec<u32>, usize) {
    let mixed = |most: u64, factor: u64| 1 + number * factor % most;
    let half = u64::from(request.context) / 2;
    let prompt = match number % 8 {
        0 => half,
        1..4 => mixed(half, 7919),
        _ => mixed(half / 8, 104_729),
    };
    let begin = (number * 37) as usize;
    let words = request.text.iter().cycle().skip(begin % request.text.len());
    // At least two tokens, so that there is a pause between two.
    (words.take(prompt as usize).copied().collect(), 1 + mixed(half - 2, 1_299_709) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_and_answers_fit_the_context_and_differ() {
        let request = Endure { seconds: 1, sequences: 16, text: (0..1000).collect(), context: 1024 };
        let pieces: Vec<_> = (0..200).map(|number| piece(&request, number)).collect();
        assert!(pieces.iter().all(|(prompt, left)| !prompt.is_empty() && *left > 1 && prompt.len() + left < 1024));
        let lengths: std::collections::BTreeSet<_> =
            pieces.iter().map(|(prompt, left)| (prompt.len(), *left)).collect();
        assert!(lengths.len() > 190, "{lengths:?}");
    }
}
