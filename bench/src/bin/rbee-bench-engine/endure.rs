//! Many sequences of mixed length for a long time: whoever is finished makes room for the next one.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rbee_schema::Failure;
use rbee_worker::contract::{Engine, Sequence, SequenceId};

use crate::{
    ours::GREEDY,
    wire::{Endure, Endured},
};

/// A sequence on its way.
struct Running {
    /// Tokens that are still to be made.
    left: usize,
    begun: Instant,
    /// When the last token was made.
    last: Option<Instant>,
    /// How long the first token took.
    first: Duration,
    /// The longest time between two tokens.
    gap: Duration,
}

/// Keeps the engine full until the time is over. Counts the sequences that were finished.
pub(crate) fn endure(engine: &mut dyn Engine, asked: &Endure) -> Result<Endured, Failure> {
    let (mut running, mut endured) = (BTreeMap::new(), Endured::default());
    let end = Instant::now() + Duration::from_secs(asked.seconds);
    let mut next = 0;
    while Instant::now() < end {
        while running.len() < asked.sequences as usize {
            let (prompt, left) = piece(asked, next);
            engine.admit(SequenceId(next), Sequence::new(prompt, GREEDY))?;
            running.insert(next, Running::new(left));
            next += 1;
        }
        for (SequenceId(id), token) in engine.step() {
            token?;
            endured.tokens += 1;
            let of = running.get_mut(&id).expect("only what was admitted makes tokens");
            of.made();
            if of.left == 0 {
                engine.release(SequenceId(id));
                endured.firsts.push(of.first.as_secs_f64());
                endured.gaps.push(of.gap.as_secs_f64());
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

    fn made(&mut self) {
        let now = Instant::now();
        match self.last {
            None => self.first = now - self.begun,
            Some(last) => self.gap = self.gap.max(now - last),
        }
        self.last = Some(now);
        self.left = self.left.saturating_sub(1);
    }
}

/// The prompt of the `number`-th sequence and how many tokens it gets: a few, some, and now and then as many as there is
/// room for. Multiples of numbers without common factors look mixed and are the same each time.
fn piece(asked: &Endure, number: u64) -> (Vec<u32>, usize) {
    let mixed = |most: u64, factor: u64| 1 + number * factor % most;
    let half = u64::from(asked.context) / 2;
    let prompt = match number % 8 {
        0 => half,
        1..4 => mixed(half, 7919),
        _ => mixed(half / 8, 104_729),
    };
    let begin = (number * 37) as usize;
    let words = asked.text.iter().cycle().skip(begin % asked.text.len());
    // Two tokens at least: between them there is a gap.
    (words.take(prompt as usize).copied().collect(), 1 + mixed(half - 2, 1_299_709) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompt_and_answer_fit_the_context_and_differ() {
        let asked = Endure { seconds: 1, sequences: 16, text: (0..1000).collect(), context: 1024 };
        let pieces: Vec<_> = (0..200).map(|number| piece(&asked, number)).collect();
        assert!(pieces.iter().all(|(prompt, left)| !prompt.is_empty() && *left > 1 && prompt.len() + left < 1024));
        let lengths: std::collections::BTreeSet<_> =
            pieces.iter().map(|(prompt, left)| (prompt.len(), *left)).collect();
        assert!(lengths.len() > 190, "{lengths:?}");
    }
}
