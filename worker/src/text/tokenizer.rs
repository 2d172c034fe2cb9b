//! Turns text into token ids, and token ids into bytes.
//!
//! GGUF files name the kind of their vocabulary (`tokenizer.ggml.model`): `gpt2` is byte-level byte-pair encoding, `llama` is
//! SentencePiece. This file has the parts that are common to both: finding control tokens, and the bytes of tokens. Both decide
//! which tokens untrusted text can become.

use std::collections::BTreeSet;

use rbee_schema::Failure;

use super::{
    byte_pairs,
    pre_tokenizer::PreTokenizer,
    sentence_piece::SentencePiece,
    token_matcher::{Segment, TokenMatcher},
    vocabulary::{TokenEncoding, TokenKind, Vocabulary},
};
use crate::model_file::{
    error::{invalid, unsupported},
    gguf::Metadata,
};

/// Turns text into token ids, and token ids into bytes.
pub struct Tokenizer {
    merging: Merging,
    /// Tokens that only the chat template may write.
    control: TokenMatcher,
    /// Words that the model's makers added and that do not look like control tokens. Messages may contain them.
    added: TokenMatcher,
    pieces: Vec<Box<[u8]>>,
    stop_tokens: BTreeSet<u32>,
    /// BOS token, if texts begin with it.
    prefix: Option<u32>,
    bos_text: String,
    eos_text: String,
    leading_space: LeadingSpace,
}

/// Algorithm by which text between control tokens and added words becomes tokens.
pub(super) enum Merging {
    /// The `tokenizers` crate.
    Library(Box<tokenizers::Tokenizer>),
    /// Merging by scores.
    SentencePiece(Box<SentencePiece>),
}

/// Rule for putting a space before a text, so that its first word has the same tokens as elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeadingSpace {
    /// No space is added.
    Never,
    /// A space at the beginning of the prompt.
    First,
    /// A space at the beginning of the prompt, and after every control token and added word.
    AfterTokens,
}

impl Tokenizer {
    /// Reads the tokenizer of a GGUF file.
    ///
    /// # Errors
    /// `model-unsupported` for another kind of vocabulary, `model-invalid` for one that contradicts itself.
    pub fn from_metadata(metadata: Metadata<'_>) -> Result<Self, Failure> {
        let add_bos = metadata.optional_flag("tokenizer.ggml.add_bos_token")?;
        match metadata.text("tokenizer.ggml.model")? {
            "gpt2" => {
                let pre_tokenizer = PreTokenizer::from_metadata(metadata)?;
                let vocabulary = Vocabulary::from_metadata(metadata, TokenEncoding::ByteAlphabet)?;
                let library = byte_pairs::from_metadata(metadata, &vocabulary, pre_tokenizer)?;
                let add_bos = add_bos.unwrap_or(pre_tokenizer.adds_bos_token());
                Ok(Self::new(&vocabulary, Merging::Library(Box::new(library)), add_bos, LeadingSpace::Never))
            }
            "llama" => {
                let vocabulary = Vocabulary::from_metadata(metadata, TokenEncoding::SpaceMarks)?;
                let merging = Merging::SentencePiece(Box::new(SentencePiece::from_metadata(metadata, &vocabulary)?));
                let leading_space = match metadata.optional_flag("tokenizer.ggml.add_space_prefix")? {
                    Some(false) => LeadingSpace::Never,
                    None | Some(true) => LeadingSpace::AfterTokens,
                };
                Ok(Self::new(&vocabulary, merging, add_bos.unwrap_or(true), leading_space))
            }
            other => Err(unsupported(format!("the tokenizer is of the kind {other:?}: supported are gpt2, llama"))),
        }
    }

    /// Builds a tokenizer. With `add_bos`, every text begins with the BOS token.
    pub(super) fn new(
        vocabulary: &Vocabulary<'_>,
        merging: Merging,
        add_bos: bool,
        leading_space: LeadingSpace,
    ) -> Self {
        let added = vocabulary.of_kind(TokenKind::Added);
        let (marks, words): (Vec<_>, Vec<_>) = added.partition(|(text, _)| is_mark(text));
        Self {
            merging,
            control: TokenMatcher::new(vocabulary.of_kind(TokenKind::Control).chain(marks)),
            added: TokenMatcher::new(words),
            pieces: vocabulary.pieces(),
            stop_tokens: vocabulary.stop_tokens.clone(),
            prefix: vocabulary.bos.filter(|_| add_bos),
            bos_text: vocabulary.text(vocabulary.bos).to_owned(),
            eos_text: vocabulary.text(vocabulary.eos).to_owned(),
            leading_space,
        }
    }

    /// Tokenizes a rendered chat: splits it at control tokens, then removes the character `escape` from the text between them.
    ///
    /// The BOS token is put first if the model requires it and the template did not write it. The EOS token is never appended,
    /// even if the file asks for it, because the answer follows. Bytes without a token are left out, as in llama.cpp.
    ///
    /// # Errors
    /// `model-invalid` if the vocabulary cannot express the text.
    pub fn encode(&self, text: &str, escape: char) -> Result<Vec<u32>, Failure> {
        let (mut ids, mut after_token) = (Vec::new(), true);
        for segment in self.control.split(text) {
            match segment {
                Segment::Token(id) => {
                    ids.push(id);
                    after_token = true;
                }
                Segment::Text(text) => self.encode_text(&text.replace(escape, ""), &mut after_token, &mut ids)?,
            }
        }
        match self.prefix {
            Some(bos) if ids.first() != Some(&bos) => ids.insert(0, bos),
            Some(_) | None => {}
        }
        Ok(ids)
    }

    fn encode_text(&self, text: &str, after_token: &mut bool, ids: &mut Vec<u32>) -> Result<(), Failure> {
        for segment in self.added.split(text) {
            match segment {
                Segment::Token(id) => {
                    ids.push(id);
                    *after_token = true;
                }
                Segment::Text(text) => {
                    let needs_space = match self.leading_space {
                        LeadingSpace::Never => false,
                        LeadingSpace::First => ids.is_empty(),
                        LeadingSpace::AfterTokens => *after_token,
                    };
                    *after_token = false;
                    if needs_space {
                        self.merging.encode(&format!(" {text}"), ids)?;
                    } else {
                        self.merging.encode(text, ids)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Number of tokens in the vocabulary.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// True if the vocabulary has no tokens.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Control tokens. Messages are escaped with these, so that they cannot contain one.
    pub fn control_tokens(&self) -> &TokenMatcher {
        &self.control
    }

    /// Bytes that a token adds to an answer; empty for hidden control tokens and for unknown ids.
    pub fn piece(&self, id: u32) -> &[u8] {
        self.pieces.get(id as usize).map_or(&[], |piece| piece)
    }

    /// Makes the control tokens with these texts visible in answers.
    pub fn show_in_answers(&mut self, texts: impl Iterator<Item = &'static str>) {
        for text in texts {
            let piece = self.control.id(text).and_then(|id| self.pieces.get_mut(id as usize));
            if let Some(piece) = piece.filter(|piece| piece.is_empty()) {
                *piece = text.as_bytes().into();
            }
        }
    }

    /// Tokens that end an answer.
    pub fn stop_tokens(&self) -> Vec<u32> {
        self.stop_tokens.iter().copied().collect()
    }

    /// Texts of the BOS and EOS tokens, for the chat template.
    pub fn bos_and_eos(&self) -> (&str, &str) {
        (&self.bos_text, &self.eos_text)
    }
}

impl Merging {
    fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), Failure> {
        match self {
            Self::Library(library) => {
                let encoding = library.encode_fast(text, false);
                ids.extend_from_slice(encoding.map_err(|cause| invalid(cause.to_string()))?.get_ids());
            }
            Self::SentencePiece(merging) => merging.encode(text, ids),
        }
        Ok(())
    }
}

/// True if a token has the form of the marks that templates put around turns and tool calls. Some files declare such tokens as
/// words. They are visible in answers, but messages must not contain them.
fn is_mark(token: &str) -> bool {
    token.starts_with("<|") && token.ends_with("|>")
}
