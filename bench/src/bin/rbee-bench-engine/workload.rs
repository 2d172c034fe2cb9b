//! Workloads of a loaded model, and the quantities that they measure.

use rbee_bench::table::Unit;

use crate::{
    row::{Better, Kind},
    side::Side,
    wire::{Answer, Answered, Attention, Question},
};

/// Context of a sequence in every workload, in tokens of prompt and answer.
pub(crate) const CONTEXT: u32 = 1024;

/// Largest number of concurrent sequences.
pub(crate) const SEQUENCES: usize = 16;

/// Tokens of the prompt of each concurrent sequence, and of the first request.
pub(crate) const PROMPT: usize = 128;

/// Tokens after the first one of each concurrent sequence.
const TOGETHER: usize = 32;

/// Tokens after the first one of a single sequence.
const ALONE: usize = 64;

/// Tokens of a chat's first prompt, of its answer, and of the next message.
const TURN: [usize; 3] = [512, 32, 32];

/// A task for both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workload {
    /// Reads a prompt of this many tokens.
    Prefill(usize),
    /// Answers a short prompt with the most likely tokens.
    Decode,
    /// Answers a short prompt with randomly sampled tokens.
    Draw,
    /// Generates this many answers concurrently.
    Concurrent(usize),
    /// Continues a chat.
    Turn,
}

/// Cuts prompts from a text. Each starts at another position, so that none is a prefix of another, which an engine could have
/// cached.
pub(crate) struct Prompts {
    text: Vec<u32>,
    begin: usize,
}

/// Distance between the starts of two prompts: a prime, so that it is coprime to the length of almost every text.
const STRIDE: usize = 37;

impl Prompts {
    pub(crate) fn new(text: Vec<u32>) -> Self {
        Self { text, begin: 0 }
    }

    pub(crate) fn take(&mut self, tokens: usize) -> Vec<u32> {
        self.begin = (self.begin + STRIDE) % self.text.len();
        self.text.iter().cycle().skip(self.begin).take(tokens).copied().collect()
    }

    /// Prompts of one round of a workload.
    pub(crate) fn of(&mut self, workload: Workload) -> Vec<Vec<u32>> {
        match workload {
            Workload::Prefill(tokens) => vec![self.take(tokens)],
            Workload::Decode | Workload::Draw => vec![self.take(16)],
            Workload::Concurrent(count) => (0..count).map(|_| self.take(PROMPT)).collect(),
            Workload::Turn => vec![self.take(TURN[0]), self.take(TURN[2]), self.take(TURN.iter().sum())],
        }
    }
}

impl Workload {
    /// Runs the workload on a side, and returns the measured values.
    ///
    /// # Errors
    /// The error of the side.
    pub(crate) fn run(
        self,
        side: &mut Side,
        prompts: &[Vec<u32>],
        attention: Attention,
    ) -> Result<Vec<(Kind, f64)>, String> {
        let (context, drawn) = (CONTEXT, self == Self::Draw);
        let mut ask = |prompts: Vec<Vec<u32>>, tokens, reuse| {
            side.ask::<Answered>(&Question::Answer(Answer { prompts, tokens, context, attention, drawn, reuse }))
        };
        Ok(match self {
            Self::Prefill(tokens) => prefill(tokens, &ask(prompts.to_vec(), 1, false)?),
            Self::Decode => decode(&ask(prompts.to_vec(), 1 + ALONE, false)?),
            Self::Draw => draw(&ask(prompts.to_vec(), 1 + ALONE, false)?),
            Self::Concurrent(count) => concurrent(count, &ask(prompts.to_vec(), 1 + TOGETHER, false)?),
            Self::Turn => {
                let mut chat = prompts[0].clone();
                let mut answer = ask(vec![chat.clone()], TURN[1], false)?;
                chat.append(&mut answer.answers[0]);
                chat.extend(&prompts[1]);
                let known = ask(vec![chat], 1, true)?;
                let unknown = ask(vec![prompts[2].clone()], 1, false)?;
                turn(&known, &unknown)
            }
        })
    }
}

fn prefill(tokens: usize, answered: &Answered) -> Vec<(Kind, f64)> {
    let mut measured = Vec::new();
    if tokens == PROMPT {
        measured.push((Kind::time(format!("first token after {tokens} tokens, warm")), answered.first));
    }
    let rate = Kind::rate(format!("prompt of {tokens} tokens")).with_target(0.9);
    measured.push((rate, tokens as f64 / answered.first));
    measured
}

fn decode(answered: &Answered) -> Vec<(Kind, f64)> {
    let steps = Kind { name: "the same, tokens per step".into(), unit: Unit::Ratio, better: Better::More, aim: None };
    vec![
        (Kind::rate(format!("answer of {ALONE} tokens")).with_target(1.0), answered.rate()),
        (steps, answered.later as f64 / answered.steps as f64),
    ]
}

fn draw(answered: &Answered) -> Vec<(Kind, f64)> {
    vec![(Kind::rate(format!("answer of {ALONE} randomly sampled tokens")).with_target(1.0), answered.rate())]
}

fn concurrent(count: usize, answered: &Answered) -> Vec<(Kind, f64)> {
    let mut rate = Kind::rate(format!("{count} concurrent answers, tokens"));
    if count == 8 {
        rate = rate.with_target(1.5);
    }
    let total = Kind::rate(format!("{count} concurrent answers, tokens with prompts"));
    let made: usize = answered.answers.iter().map(Vec::len).sum();
    vec![(rate, answered.rate()), (total, (count * PROMPT + made) as f64 / answered.seconds)]
}

fn turn(known: &Answered, unknown: &Answered) -> Vec<(Kind, f64)> {
    vec![
        (Kind::time("first token of a chat's second turn"), known.first),
        (Kind::time("the same chat without a cache"), unknown.first),
    ]
}

/// Share of the memory bandwidth that an answer uses: each token reads all weights once.
pub(crate) fn share(measured: &[(Kind, f64)], weights: u64, bandwidth: f64) -> (Kind, f64) {
    let name = "the same, share of the memory bandwidth";
    let kind = Kind { name: name.into(), unit: Unit::Share, better: Better::More, aim: None };
    (kind, measured[0].1 * weights as f64 / bandwidth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_prompt_is_a_prefix_of_another() {
        let mut prompts = Prompts::new((0..2000).collect());
        let taken: Vec<_> = (0..1000).map(|_| prompts.take(16)).collect();
        let begins: std::collections::BTreeSet<_> = taken.iter().map(|prompt| prompt[0]).collect();
        assert_eq!(begins.len(), taken.len());
    }

    #[test]
    fn rates_count_tokens_after_the_first_ones() {
        let answered =
            Answered { first: 1.0, seconds: 3.0, later: 64, steps: 32, answers: vec![vec![0; 33], vec![0; 33]] };
        let rates: Vec<f64> = concurrent(2, &answered).into_iter().map(|(_, rate)| rate).collect();
        assert_eq!(rates, [32.0, (256.0 + 66.0) / 3.0]);
    }
}
