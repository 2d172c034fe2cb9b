//! SentencePiece tokenization (`tokenizer.ggml.model` = `llama`), in which every token has a score.
//!
//! A text begins as its characters, with U+2581 for each space. Of all neighbors that form a token together, the pair whose token
//! has the highest score is merged; of equal scores the first pair. When no pair is left, symbols that are no token are
//! written as tokens of their bytes. Source: `llm_tokenizer_spm_session` in
//! <https://github.com/ggml-org/llama.cpp/blob/master/src/llama-vocab.cpp>. Two things differ: control tokens and byte tokens
//! never come from text, so that a message cannot contain one, and neither do unused tokens.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, HashMap},
};

use rbee_schema::Failure;

use super::vocabulary::{SPACE_MARK, TokenKind, Vocabulary};
use crate::model_file::{error::invalid, gguf::Metadata};

/// Index of a missing neighbor in a [`Symbol`].
const NONE: usize = usize::MAX;

/// Merges characters into tokens by score.
pub(super) struct SentencePiece {
    /// Ids and scores of the tokens that text can become.
    tokens: HashMap<Box<str>, (u32, f32)>,
    /// Tokens of single bytes.
    bytes: [Option<u32>; 256],
    /// Token for bytes that have no token of their own.
    unknown: Option<u32>,
    /// Length of the longest token in bytes.
    longest: usize,
}

/// A part of the text during merging.
#[derive(Debug, Clone, Copy)]
struct Symbol {
    start: usize,
    /// Length in bytes; 0 once the symbol was merged into the one before.
    length: usize,
    previous: usize,
    next: usize,
}

/// Two neighboring symbols that form a token together.
#[derive(Debug, Clone, Copy)]
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    /// Length of both in bytes. A different sum means that one of them has been merged since.
    length: usize,
}

impl SentencePiece {
    /// Reads the scores from a GGUF file.
    ///
    /// # Errors
    /// `model-invalid` if the number of scores is not the number of tokens.
    pub(super) fn from_metadata(metadata: Metadata<'_>, vocabulary: &Vocabulary<'_>) -> Result<Self, Failure> {
        let scores = metadata.optional_numbers("tokenizer.ggml.scores")?;
        let count = vocabulary.tokens.len();
        if let Some(scores) = &scores
            && scores.len() != count
        {
            return Err(invalid(format!("the tokenizer has {count} tokens and {} scores", scores.len())));
        }
        let score = |id: usize| scores.as_ref().map_or(0.0, |scores| scores[id]);
        let mut tokens: HashMap<Box<str>, (u32, f32)> = HashMap::with_capacity(count);
        let mut bytes = [None; 256];
        for (id, (text, kind)) in vocabulary.iter() {
            match kind {
                TokenKind::Text | TokenKind::Added => drop(tokens.insert((*text).into(), (id, score(id as usize)))),
                TokenKind::Byte(byte) => bytes[usize::from(byte)] = Some(id),
                TokenKind::Control | TokenKind::Unused => {}
            }
        }
        let longest = tokens.keys().map(|token| token.len()).max().unwrap_or(0);
        let unknown = metadata.optional_count("tokenizer.ggml.unknown_token_id")?;
        let unknown = unknown.filter(|&unknown| (unknown as usize) < count);
        Ok(Self { tokens, bytes, unknown, longest })
    }

    /// Appends the tokens of a text to `ids`.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        let text = text.replace(' ', SPACE_MARK);
        let mut symbols = symbols(&text);
        self.merge(&text, &mut symbols);
        for symbol in symbols.iter().filter(|symbol| symbol.length > 0) {
            let piece = &text[symbol.start..symbol.start + symbol.length];
            match self.tokens.get(piece) {
                Some((id, _)) => ids.push(*id),
                None => ids.extend(piece.bytes().filter_map(|byte| self.byte(byte))),
            }
        }
    }

    fn merge(&self, text: &str, symbols: &mut [Symbol]) {
        let mut pairs: BinaryHeap<Pair> =
            (1..symbols.len()).filter_map(|right| self.pair(text, symbols, right - 1, right)).collect();
        while let Some(Pair { left, right, length, .. }) = pairs.pop() {
            let (before, after) = (symbols[left], symbols[right]);
            if before.length == 0 || after.length == 0 || before.length + after.length != length {
                continue;
            }
            symbols[right].length = 0;
            symbols[left] = Symbol { length, next: after.next, ..before };
            if after.next != NONE {
                symbols[after.next].previous = left;
            }
            pairs.extend(self.pair(text, symbols, before.previous, left));
            pairs.extend(self.pair(text, symbols, left, after.next));
        }
    }

    fn pair(&self, text: &str, symbols: &[Symbol], left: usize, right: usize) -> Option<Pair> {
        let (before, after) = (symbols.get(left)?, symbols.get(right)?);
        let length = before.length + after.length;
        if length > self.longest {
            return None;
        }
        let (_, score) = self.tokens.get(&text[before.start..before.start + length])?;
        Some(Pair { score: *score, left, right, length })
    }

    fn byte(&self, byte: u8) -> Option<u32> {
        self.bytes[usize::from(byte)].or(self.unknown)
    }
}

/// The characters of a text as a linked list of symbols.
fn symbols(text: &str) -> Vec<Symbol> {
    let mut symbols: Vec<Symbol> = text
        .char_indices()
        .enumerate()
        .map(|(index, (start, character))| Symbol {
            start,
            length: character.len_utf8(),
            previous: index.wrapping_sub(1),
            next: index + 1,
        })
        .collect();
    if let Some(last) = symbols.last_mut() {
        last.next = NONE;
    }
    symbols
}

impl Ord for Pair {
    /// The greatest pair is merged first: the highest score, then the leftmost.
    fn cmp(&self, other: &Self) -> Ordering {
        // Adding 0.0 turns -0.0 into 0.0: they are equal as numbers, but not in `total_cmp`.
        (self.score + 0.0).total_cmp(&(other.score + 0.0)).then_with(|| other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Pair {}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(text: &str) -> Vec<u32> {
        let scored = [("a", -1.0), ("b", -1.0), ("ab", -3.0), ("ba", -2.0), ("aba", -9.0), ("▁", -1.0), ("▁a", -2.0)];
        let tokens: HashMap<Box<str>, (u32, f32)> =
            (0..).zip(scored).map(|(id, (text, score))| (text.into(), (id, score))).collect();
        let mut bytes = [None; 256];
        bytes[0xC3] = Some(100);
        let mut ids = Vec::new();
        SentencePiece { tokens, bytes, unknown: Some(9), longest: 4 }.encode(text, &mut ids);
        ids
    }

    #[test]
    fn pair_with_the_highest_score_is_merged_first() {
        for (text, expected) in [
            ("", &[][..]),
            ("ab", &[2]),
            ("aba", &[4]),
            ("abab", &[4, 1]),
            ("baba", &[3, 3]),
            ("a a", &[0, 6]),
            ("a  ", &[0, 5, 5]),
        ] {
            assert_eq!(encode(text), expected, "{text:?}");
        }
    }

    #[test]
    fn text_without_token_becomes_bytes_or_the_unknown_token() {
        assert_eq!(encode("aé"), [0, 100, 9]);
    }
}
