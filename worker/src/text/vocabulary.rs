//! The tokens of a model, with the kind and the bytes of each.

use std::collections::BTreeSet;

use rbee_schema::Failure;

use super::{byte_alphabet, stop_tokens};
use crate::model_file::{
    error::{invalid, printable},
    gguf::Metadata,
};

/// Character that stands for a space in SentencePiece vocabularies.
pub(super) const SPACE_MARK: &str = "\u{2581}";

/// Kind of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// A piece of text, which merges can make.
    Text,
    /// A word that the model's makers added. It is found by its text before merging.
    Added,
    /// A token that only the model and its template write.
    Control,
    /// A single byte.
    Byte(u8),
    /// A token without meaning.
    Unused,
}

/// Encoding of the bytes of a token in the token's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenEncoding {
    /// One character of the byte-level alphabet for each byte.
    ByteAlphabet,
    /// UTF-8 text, with U+2581 for a space.
    SpaceMarks,
}

/// All tokens of a model. A token's id is its index.
pub(super) struct Vocabulary<'a> {
    /// Texts of the tokens, encoded as `encoding` says.
    pub(super) tokens: Vec<&'a str>,
    /// Kind of each token.
    pub(super) kinds: Vec<TokenKind>,
    /// Encoding of all texts.
    pub(super) encoding: TokenEncoding,
    /// Token at the beginning of a text.
    pub(super) bos: Option<u32>,
    /// Token at the end of a text.
    pub(super) eos: Option<u32>,
    /// Tokens that end an answer.
    pub(super) stop_tokens: BTreeSet<u32>,
}

impl<'a> Vocabulary<'a> {
    /// Reads the vocabulary of a GGUF file.
    ///
    /// # Errors
    /// `model-invalid` for a vocabulary that contradicts itself.
    pub(super) fn from_metadata(metadata: Metadata<'a>, encoding: TokenEncoding) -> Result<Self, Failure> {
        let tokens = metadata.texts("tokenizer.ggml.tokens")?;
        let types = metadata.counts("tokenizer.ggml.token_type")?;
        if types.len() != tokens.len() {
            let (tokens, types) = (tokens.len(), types.len());
            return Err(invalid(format!("the tokenizer has {tokens} tokens and {types} token types")));
        }
        let kinds = tokens.iter().zip(types).map(|(token, number)| token_kind(token, number, encoding));
        let kinds = kinds.collect::<Result<Vec<TokenKind>, Failure>>()?;
        let named = |key: &str| named_token(metadata, key, tokens.len());
        let (bos, eos) = (named("tokenizer.ggml.bos_token_id")?, named("tokenizer.ggml.eos_token_id")?);
        let others = [named("tokenizer.ggml.eot_token_id")?, named("tokenizer.ggml.eom_token_id")?];
        Ok(Self::new(tokens, kinds, encoding, bos, eos).with_stop_tokens(others.into_iter().flatten()))
    }

    /// Builds a vocabulary from tokens and as many kinds.
    pub(super) fn new(
        tokens: Vec<&'a str>,
        mut kinds: Vec<TokenKind>,
        encoding: TokenEncoding,
        bos: Option<u32>,
        eos: Option<u32>,
    ) -> Self {
        for (token, kind) in tokens.iter().zip(&mut kinds) {
            // Some converters mark the end of a turn as text. Then any message could end its turn.
            if matches!(kind, TokenKind::Text | TokenKind::Added) && stop_tokens::is_never_text(token) {
                *kind = TokenKind::Control;
            }
        }
        let control = (0..).zip(tokens.iter().copied().zip(&kinds));
        let control = control.filter(|(_, (_, kind))| **kind == TokenKind::Control).map(|(id, (text, _))| (id, text));
        let stop_tokens = stop_tokens::find(control);
        Self { tokens, kinds, encoding, bos, eos, stop_tokens }.with_stop_tokens(eos)
    }

    /// Adds tokens that end an answer.
    pub(super) fn with_stop_tokens(mut self, ids: impl IntoIterator<Item = u32>) -> Self {
        self.stop_tokens.extend(ids);
        self
    }

    /// Ids, texts and kinds of all tokens.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, (&'a str, TokenKind))> {
        (0..).zip(self.tokens.iter().copied().zip(self.kinds.iter().copied()))
    }

    /// Texts and ids of the tokens of one kind.
    pub(super) fn of_kind(&self, kind: TokenKind) -> impl Iterator<Item = (String, u32)> {
        self.iter().filter(move |(_, (_, found))| *found == kind).map(|(id, (text, _))| (text.to_owned(), id))
    }

    /// Bytes that each token adds to an answer.
    pub(super) fn pieces(&self) -> Vec<Box<[u8]>> {
        self.iter().map(|(_, (token, kind))| piece(token, kind, self.encoding)).collect()
    }

    /// Text of a token; empty if there is no such token.
    pub(super) fn text(&self, id: Option<u32>) -> &'a str {
        id.and_then(|id| self.tokens.get(id as usize).copied()).unwrap_or_default()
    }
}

/// Kind of a token by its number in `tokenizer.ggml.token_type`.
fn token_kind(token: &str, number: u32, encoding: TokenEncoding) -> Result<TokenKind, Failure> {
    match number {
        1 => Ok(TokenKind::Text),
        // The unknown token (2) is not written by messages either.
        2 | 3 => Ok(TokenKind::Control),
        4 => Ok(TokenKind::Added),
        5 => Ok(TokenKind::Unused),
        // In the byte-level alphabet each byte has a character, so that byte tokens are ordinary ones.
        6 if encoding == TokenEncoding::ByteAlphabet => Ok(TokenKind::Text),
        6 => byte_token(token).map(TokenKind::Byte).ok_or_else(|| {
            let token = printable(token);
            invalid(format!("the tokenizer has the byte token {token:?}: expected a text such as <0x0A>"))
        }),
        other => Err(invalid(format!("the tokenizer has a token of the type {other}, which GGUF does not define"))),
    }
}

/// Byte that a token such as `<0x0A>` stands for.
pub(super) fn byte_token(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    // `from_str_radix` alone would accept a sign.
    let is_plain = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_plain.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

fn named_token(metadata: Metadata<'_>, key: &str, tokens: usize) -> Result<Option<u32>, Failure> {
    match metadata.optional_count(key)? {
        Some(id) if id as usize >= tokens => {
            Err(invalid(format!("{key} in the header is {id}, but there are {tokens} tokens")))
        }
        id => Ok(id),
    }
}

fn piece(token: &str, kind: TokenKind, encoding: TokenEncoding) -> Box<[u8]> {
    match (kind, encoding) {
        (TokenKind::Text, TokenEncoding::ByteAlphabet) => byte_alphabet::bytes_of(token).into(),
        (TokenKind::Text, TokenEncoding::SpaceMarks) => token.replace(SPACE_MARK, " ").into_bytes().into(),
        (TokenKind::Added, _) => token.as_bytes().into(),
        (TokenKind::Byte(byte), _) => [byte].into(),
        (TokenKind::Control | TokenKind::Unused, _) => Box::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_tokens_are_found_by_text_and_kind() {
        let check = |tokens: &[&'static str], kind: TokenKind, eos: Option<u32>, expected: &[u32]| {
            let vocabulary =
                Vocabulary::new(tokens.to_vec(), vec![kind; tokens.len()], TokenEncoding::SpaceMarks, None, eos);
            assert_eq!(Vec::from_iter(vocabulary.stop_tokens), expected, "{tokens:?}");
        };
        check(&["<s>", "</s>"], TokenKind::Control, None, &[1]);
        check(&["<bos>", "<eos>", "<end_of_turn>"], TokenKind::Control, Some(1), &[1, 2]);
        check(&["<|end|>", "<|return|>", "<|call|>"], TokenKind::Control, Some(1), &[1, 2]);
        check(&["<|end|>", "<|return|>"], TokenKind::Control, None, &[0, 1]);
        check(&["a", "</s>", "<|im_end|>"], TokenKind::Text, Some(0), &[0, 2]);
    }

    #[test]
    fn end_of_turn_is_never_text() {
        let vocabulary = Vocabulary::new(
            vec!["<|im_end|>", "</s>", "a"],
            vec![TokenKind::Added; 3],
            TokenEncoding::SpaceMarks,
            None,
            None,
        );
        assert_eq!(vocabulary.kinds, [TokenKind::Control, TokenKind::Added, TokenKind::Added]);
    }

    #[test]
    fn tokens_are_decoded_to_bytes() {
        for (token, expected) in
            [("<0x0A>", Some(10)), ("<0xFf>", Some(255)), ("<0x0>", None), ("<0x+A>", None), ("a", None)]
        {
            assert_eq!(byte_token(token), expected, "{token}");
        }
        assert_eq!(piece("▁bee▁", TokenKind::Text, TokenEncoding::SpaceMarks).as_ref(), b" bee ");
        assert_eq!(piece("Ġbee", TokenKind::Text, TokenEncoding::ByteAlphabet).as_ref(), b" bee");
    }
}
