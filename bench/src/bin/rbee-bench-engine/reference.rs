//! Agreement of our engine with llama.cpp: the same tokens for the same prompts.

use std::{collections::BTreeMap, fs, path::Path};

use rbee_tests::tools::repository;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    side::Side,
    wire::{Answer, Answered, Attention, Question},
    workload::CONTEXT,
};

/// A reference of a model, which `scripts/reference_tokens.py` wrote.
#[derive(Debug, Deserialize)]
pub(crate) struct Reference {
    /// The name of the model's file.
    model: String,
    #[serde(default)]
    chats: BTreeMap<String, Piece>,
    #[serde(default)]
    pieces: BTreeMap<String, Piece>,
    /// Gap between two logits below which either token is accepted.
    near_tie: f32,
    pub(crate) perplexity: Option<Text>,
}

/// A prompt, the most likely tokens after it, and the gap between each and the second most likely one.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Piece {
    prompt: Vec<u32>,
    answer: Vec<u32>,
    gaps: Vec<f32>,
}

/// The ids of a text.
#[derive(Debug, Deserialize)]
pub(crate) struct Text {
    pub(crate) tokens: Vec<u32>,
}

impl Reference {
    /// The reference of a model; `None` where the repository has none.
    pub(crate) fn of(model: &Path) -> Option<Self> {
        let folder = repository().join("worker/tests/reference");
        let files = fs::read_dir(folder).expect("a folder of this repository").flatten();
        let references = files.filter_map(|file| serde_json::from_slice(&fs::read(file.path()).ok()?).ok());
        let name = model.file_name()?.to_str()?;
        references.into_iter().find(|reference: &Self| reference.model == name)
    }

    /// Lets our side answer every prompt.
    ///
    /// # Errors
    /// The error of our side.
    pub(crate) fn compare(&self, side: &mut Side) -> Result<Agreement, String> {
        let mut agreement = Agreement { tokens: 0, near_ties: Vec::new(), different: Vec::new() };
        for (name, piece) in self.chats.iter().chain(&self.pieces) {
            let mut done = 0;
            while done < piece.answer.len() {
                let answer = continue_after(side, piece, done)?;
                done += agreement.compare(name, piece, done, &answer, self.near_tie);
            }
        }
        Ok(agreement)
    }
}

/// The tokens of our side after the prompt and the first `done` tokens of the reference's answer.
fn continue_after(side: &mut Side, piece: &Piece, done: usize) -> Result<Vec<u32>, String> {
    let prompt = [&piece.prompt, &piece.answer[..done]].concat();
    let (prompts, tokens) = (vec![prompt], piece.answer.len() - done);
    let attention = Attention::Plain;
    let mut answered: Answered = side.ask(&Question::Answer(Answer {
        prompts,
        tokens,
        context: CONTEXT,
        attention,
        drawn: false,
        reuse: false,
    }))?;
    Ok(answered.answers.swap_remove(0))
}

/// Agreement of tokens with a reference.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Agreement {
    /// Number of compared tokens.
    pub(crate) tokens: usize,
    /// Gaps of differing tokens where two tokens were about equally likely.
    pub(crate) near_ties: Vec<f32>,
    /// Other differing tokens: prompt, index, gap.
    pub(crate) different: Vec<(String, usize, f32)>,
}

impl Agreement {
    /// Compares up to the first differing token; returns the number of compared tokens.
    fn compare(&mut self, name: &str, piece: &Piece, done: usize, answer: &[u32], near_tie: f32) -> usize {
        let expected = &piece.answer[done..];
        let equal = expected.iter().zip(answer).take_while(|(one, other)| one == other).count();
        if equal == expected.len() {
            self.tokens += equal;
            return equal;
        }
        let (index, gap) = (done + equal, piece.gaps[done + equal]);
        match gap < near_tie {
            true => self.near_ties.push(gap),
            false => self.different.push((name.to_owned(), index, gap)),
        }
        self.tokens += equal + 1;
        equal + 1
    }

    pub(crate) fn json(&self) -> Value {
        json!({ "tokens": self.tokens, "near_ties": self.near_ties, "different": self.different })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differing_token_is_a_near_tie_only_with_a_small_gap() {
        let piece = Piece { prompt: vec![1], answer: vec![5, 6, 7, 8], gaps: vec![3.0, 0.1, 2.0, 2.0] };
        let mut agreement = Agreement { tokens: 0, near_ties: Vec::new(), different: Vec::new() };
        assert_eq!(agreement.compare("a", &piece, 0, &[5, 9, 9, 9], 0.5), 2);
        assert_eq!(agreement.compare("a", &piece, 2, &[7, 9], 0.5), 2);
        assert_eq!(agreement.near_ties, [0.1]);
        assert_eq!(agreement.different, [("a".to_owned(), 3, 2.0)]);
        assert_eq!(agreement.tokens, 4);
    }

    #[test]
    fn references_can_be_parsed() {
        for model in ["SmolLM2-135M-Instruct.Q4_1.gguf", "gemma-3-270m.Q4_K_M.gguf", "synthetic-1B.Q4_K_M.gguf"] {
            let reference = Reference::of(Path::new(model)).expect(model);
            let pieces: Vec<&Piece> = reference.chats.values().chain(reference.pieces.values()).collect();
            assert!(pieces.len() >= 8 && pieces.iter().all(|piece| piece.answer.len() == piece.gaps.len()), "{model}");
        }
    }
}
