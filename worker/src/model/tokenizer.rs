//! Turns text into tokens and tokens into bytes, as a model's file says.
//!
//! Files name the kind of their vocabulary (`tokenizer.ggml.model`): `gpt2` is byte-level byte-pair encoding, `llama` is
//! SentencePiece. What is common to all is here: finding control tokens, and the bytes of tokens, because both must be
//! exact in what untrusted text can and cannot produce.

use std::collections::BTreeSet;

use rbee_schema::Failure;

use super::{
    byte_pairs, invalid,
    metadata::Metadata,
    sentence_piece::SentencePiece,
    special::{FixedTokens, Part},
    split::Way,
    unsupported,
    vocabulary::{Kind, Vocabulary, Writing},
};

/// Turns text into token ids, and ids into bytes.
pub struct Tokenizer {
    merging: Merging,
    /// Tokens of the model's own, which only its template may write.
    control: FixedTokens,
    /// Whole words that the model's makers added, and that do not look like marks; everybody may write them.
    added: FixedTokens,
    pieces: Vec<Box<[u8]>>,
    ends: BTreeSet<u32>,
    /// The token that is put before texts.
    begin: Option<u32>,
    begin_text: String,
    end_text: String,
    leading_space: LeadingSpace,
}

/// How text between fixed tokens becomes tokens.
pub(super) enum Merging {
    /// By the `tokenizers` crate.
    Library(Box<tokenizers::Tokenizer>),
    /// By scores.
    SentencePiece(Box<SentencePiece>),
}

/// Where a space is put before a text, so that its first word is a word like any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeadingSpace {
    /// Nowhere.
    Never,
    /// At the beginning.
    First,
    /// At the beginning, and behind every fixed token.
    AfterTokens,
}

impl Tokenizer {
    /// From the metadata of a file.
    ///
    /// # Errors
    /// `model-unsupported` for other kinds of vocabularies, `model-invalid` for one that contradicts itself.
    pub fn from_metadata(metadata: Metadata<'_>) -> Result<Self, Failure> {
        let begins = metadata.optional_flag("tokenizer.ggml.add_bos_token")?;
        match metadata.text("tokenizer.ggml.model")? {
            "gpt2" => {
                let way = Way::of(metadata)?;
                let vocabulary = Vocabulary::from_metadata(metadata, Writing::Alphabet)?;
                let merging = Merging::Library(Box::new(byte_pairs::from_metadata(metadata, &vocabulary, way)?));
                let begins = begins.unwrap_or(way.begins_with_a_token());
                Ok(Self::new(&vocabulary, merging, begins, LeadingSpace::Never))
            }
            "llama" => {
                let vocabulary = Vocabulary::from_metadata(metadata, Writing::Text)?;
                let merging = Merging::SentencePiece(Box::new(SentencePiece::from_metadata(metadata, &vocabulary)?));
                let space = match metadata.optional_flag("tokenizer.ggml.add_space_prefix")? {
                    Some(false) => LeadingSpace::Never,
                    None | Some(true) => LeadingSpace::AfterTokens,
                };
                Ok(Self::new(&vocabulary, merging, begins.unwrap_or(true), space))
            }
            other => Err(unsupported(format!("its tokenizer is of the kind {other:?}: supported are gpt2, llama"))),
        }
    }

    /// From its parts; `begins` says whether texts begin with a token.
    pub(super) fn new(
        vocabulary: &Vocabulary<'_>,
        merging: Merging,
        begins: bool,
        leading_space: LeadingSpace,
    ) -> Self {
        let added = vocabulary.of_kind(Kind::Added);
        let (marks, words): (Vec<_>, Vec<_>) = added.partition(|(text, _)| is_mark(text));
        Self {
            merging,
            control: FixedTokens::new(vocabulary.of_kind(Kind::Control).chain(marks)),
            added: FixedTokens::new(words),
            pieces: vocabulary.pieces(),
            ends: vocabulary.ends.clone(),
            begin: vocabulary.begin.filter(|_| begins),
            begin_text: vocabulary.text(vocabulary.begin).to_owned(),
            end_text: vocabulary.text(vocabulary.end).to_owned(),
            leading_space,
        }
    }

    /// Tokens of a rendered chat: control tokens are recognised, then `shield` is taken out of the text between them.
    ///
    /// The token with which texts begin is put before it where the model wants it and the template did not write it.
    /// None is put behind it, whatever the file says: the answer goes on there. Bytes that the vocabulary does not have
    /// are left out, as llama.cpp does.
    ///
    /// # Errors
    /// `model-invalid` if the vocabulary cannot express the text.
    pub fn encode(&self, text: &str, shield: char) -> Result<Vec<u32>, Failure> {
        let (mut ids, mut after_token) = (Vec::new(), true);
        for part in self.control.split(text) {
            match part {
                Part::Token(id) => {
                    ids.push(id);
                    after_token = true;
                }
                Part::Text(text) => self.encode_text(&text.replace(shield, ""), &mut after_token, &mut ids)?,
            }
        }
        match self.begin {
            Some(begin) if ids.first() != Some(&begin) => ids.insert(0, begin),
            _ => {}
        }
        Ok(ids)
    }

    fn encode_text(&self, text: &str, after_token: &mut bool, ids: &mut Vec<u32>) -> Result<(), Failure> {
        for part in self.added.split(text) {
            match part {
                Part::Token(id) => {
                    ids.push(id);
                    *after_token = true;
                }
                Part::Text(text) => {
                    let spaced = match self.leading_space {
                        LeadingSpace::Never => false,
                        LeadingSpace::First => ids.is_empty(),
                        LeadingSpace::AfterTokens => *after_token,
                    };
                    *after_token = false;
                    if spaced {
                        self.merging.encode(&format!(" {text}"), ids)?;
                    } else {
                        self.merging.encode(text, ids)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The control tokens, which messages must not contain as such.
    pub fn control(&self) -> &FixedTokens {
        &self.control
    }

    /// The bytes of a token; empty for control tokens that are not shown, and for unknown ids.
    pub fn piece(&self, id: u32) -> &[u8] {
        self.pieces.get(id as usize).map_or(&[], |piece| piece)
    }

    /// Gives control tokens of these texts their texts as bytes, so that answers show them.
    pub fn show(&mut self, texts: impl Iterator<Item = &'static str>) {
        for text in texts {
            let piece = self.control.id(text).and_then(|id| self.pieces.get_mut(id as usize));
            if let Some(piece) = piece.filter(|piece| piece.is_empty()) {
                *piece = text.as_bytes().into();
            }
        }
    }

    /// The tokens that end an answer.
    pub fn ends(&self) -> Vec<u32> {
        self.ends.iter().copied().collect()
    }

    /// The texts of the tokens with which texts begin and end, for the chat template.
    pub fn begin_and_end(&self) -> (&str, &str) {
        (&self.begin_text, &self.end_text)
    }
}

impl Merging {
    fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), Failure> {
        match self {
            Self::Library(merging) => {
                let encoding = merging.encode_fast(text, false);
                ids.extend_from_slice(encoding.map_err(|cause| invalid(cause.to_string()))?.get_ids());
            }
            Self::SentencePiece(merging) => merging.encode(text, ids),
        }
        Ok(())
    }
}

/// Whether a token looks like what templates mark turns and tools with. Some files say that such tokens are words; then
/// an answer shows them, but still nobody can write one.
fn is_mark(token: &str) -> bool {
    token.starts_with("<|") && token.ends_with("|>")
}
