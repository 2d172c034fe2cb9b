//! What is measured of a loaded model.

use rbee_bench::table::Unit;

use crate::{
    row::{Better, Kind},
    side::Side,
    wire::{Answer, Answered, Attention, Question},
};

/// Tokens that a sequence may have, prompt and answer, in every workload.
pub(crate) const CONTEXT: u32 = 1024;

/// The most sequences that there are at a time.
pub(crate) const SEQUENCES: usize = 16;

/// The prompt of each of several sequences, and of the first request.
pub(crate) const PROMPT: usize = 128;

/// Tokens after the first one that each of several sequences gets.
const TOGETHER: usize = 32;

/// Tokens after the first one, of a sequence alone.
const ALONE: usize = 64;

/// A chat's first prompt, its answer, and what the user says then.
const TURN: [usize; 3] = [512, 32, 32];

/// Something that both sides are asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workload {
    /// A prompt of so many tokens is read.
    Prefill(usize),
    /// An answer to a short prompt is made, of the likeliest tokens.
    Decode,
    /// The same, of tokens that are drawn at random.
    Draw,
    /// So many answers are made at a time.
    Concurrent(usize),
    /// A chat goes on.
    Turn,
}

/// Cuts prompts from a text, each of which begins at another place: none is the beginning of another one, which an
/// engine could have kept.
pub(crate) struct Prompts {
    text: Vec<u32>,
    begin: usize,
}

/// Has no factor in common with the length of a text, unless that is a multiple of it.
const STRIDE: usize = 37;

impl Prompts {
    pub(crate) fn new(text: Vec<u32>) -> Self {
        Self { text, begin: 0 }
    }

    pub(crate) fn take(&mut self, tokens: usize) -> Vec<u32> {
        self.begin = (self.begin + STRIDE) % self.text.len();
        self.text.iter().cycle().skip(self.begin).take(tokens).copied().collect()
    }

    /// Those of one round of a workload.
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
    /// Has a side do it, and says what was measured.
    ///
    /// # Errors
    /// What the side says if it cannot.
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
                let mut said = ask(vec![chat.clone()], TURN[1], false)?;
                chat.append(&mut said.answers[0]);
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
    let rate = Kind::rate(format!("prompt of {tokens} tokens")).aiming_at(0.9);
    measured.push((rate, tokens as f64 / answered.first));
    measured
}

fn decode(answered: &Answered) -> Vec<(Kind, f64)> {
    let steps = Kind { name: "the same, tokens in a step".into(), unit: Unit::Ratio, better: Better::More, aim: None };
    vec![
        (Kind::rate(format!("answer of {ALONE} tokens")).aiming_at(1.0), answered.rate()),
        (steps, answered.later as f64 / answered.steps as f64),
    ]
}

fn draw(answered: &Answered) -> Vec<(Kind, f64)> {
    vec![(Kind::rate(format!("answer of {ALONE} tokens drawn at random")).aiming_at(1.0), answered.rate())]
}

fn concurrent(count: usize, answered: &Answered) -> Vec<(Kind, f64)> {
    let mut rate = Kind::rate(format!("{count} at a time, tokens of answers"));
    if count == 8 {
        rate = rate.aiming_at(1.5);
    }
    let total = Kind::rate(format!("{count} at a time, with their prompts"));
    let made: usize = answered.answers.iter().map(Vec::len).sum();
    vec![(rate, answered.rate()), (total, (count * PROMPT + made) as f64 / answered.seconds)]
}

fn turn(known: &Answered, unknown: &Answered) -> Vec<(Kind, f64)> {
    vec![
        (Kind::time("first token of a chat's second turn"), known.first),
        (Kind::time("the same chat, never seen before"), unknown.first),
    ]
}

/// How much of the memory's bandwidth an answer uses: each token reads the weights once.
pub(crate) fn share(measured: &[(Kind, f64)], weights: u64, bandwidth: f64) -> (Kind, f64) {
    let name = "the same, as a share of the memory's bandwidth";
    let kind = Kind { name: name.into(), unit: Unit::Share, better: Better::More, aim: None };
    (kind, measured[0].1 * weights as f64 / bandwidth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_prompt_is_the_beginning_of_another_one() {
        let mut prompts = Prompts::new((0..2000).collect());
        let taken: Vec<_> = (0..1000).map(|_| prompts.take(16)).collect();
        let begins: std::collections::BTreeSet<_> = taken.iter().map(|prompt| prompt[0]).collect();
        assert_eq!(begins.len(), taken.len());
    }

    #[test]
    fn rates_count_what_was_made_after_the_first_tokens() {
        let answered =
            Answered { first: 1.0, seconds: 3.0, later: 64, steps: 32, answers: vec![vec![0; 33], vec![0; 33]] };
        let rates: Vec<f64> = concurrent(2, &answered).into_iter().map(|(_, rate)| rate).collect();
        assert_eq!(rates, [32.0, (256.0 + 66.0) / 3.0]);
    }
}
