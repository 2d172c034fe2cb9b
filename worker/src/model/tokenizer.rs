//! The tokenizer in a GGUF file's metadata: byte-level byte-pair encoding, as GPT-2 introduced it.
//!
//! Files name two things: the kind of vocabulary (`tokenizer.ggml.model`, here `gpt2`) and how text is split before
//! merging (`tokenizer.ggml.pre`). The merging is done by the `tokenizers` crate; splitting at control tokens and the
//! bytes of tokens are ours, because both must be exact in what untrusted text can and cannot produce.

use std::collections::BTreeSet;

use rbee_schema::Failure;
use tokenizers::models::bpe::{BPE, Vocab};

use super::{
    alphabet, invalid,
    metadata::Metadata,
    special::{FixedTokens, Part},
    split::Way,
    unsupported,
};

/// Control tokens that end an answer, whatever a file calls its end (the list of llama.cpp, src/llama-vocab.cpp).
const ENDS: [&str; 12] = [
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<｜end▁of▁sentence｜>",
    "<EOT>",
    "</s>",
];

/// Turns text into token ids, and ids into bytes.
pub struct Tokenizer {
    merging: tokenizers::Tokenizer,
    /// Tokens of the model's own, which only its template may write.
    control: FixedTokens,
    /// Whole words that the model's makers added; everybody may write them.
    added: FixedTokens,
    pieces: Vec<Box<[u8]>>,
    ends: BTreeSet<u32>,
    begin: Option<u32>,
    begin_text: String,
    end_text: String,
}

/// What a token is (the values of `tokenizer.ggml.token_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A piece of text, of which merges make use.
    Text,
    /// Found by its text, never merged.
    Added,
    /// For the model and its template alone.
    Control,
    /// Stands for nothing.
    Unused,
}

impl Tokenizer {
    /// From the metadata of a file.
    ///
    /// # Errors
    /// `model-unsupported` for other kinds of vocabularies, `model-invalid` for one that contradicts itself.
    pub fn from_metadata(metadata: Metadata<'_>) -> Result<Self, Failure> {
        match metadata.text("tokenizer.ggml.model")? {
            "gpt2" => {}
            "llama" => {
                return Err(unsupported("its tokenizer is of the SentencePiece kind (llama): supported is gpt2"));
            }
            other => return Err(unsupported(format!("its tokenizer is of the kind {other:?}: supported is gpt2"))),
        }
        let way = Way::named(metadata.text("tokenizer.ggml.pre")?)?;
        let tokens = metadata.texts("tokenizer.ggml.tokens")?;
        let kinds = kinds(metadata, tokens.len())?;
        let with = |wanted: Kind| {
            let matching = tokens.iter().zip(&kinds).zip(0u32..).filter(move |((_, kind), _)| **kind == wanted);
            matching.map(|((token, _), id)| ((*token).to_owned(), id))
        };
        let vocabulary: Vocab = with(Kind::Text).collect();
        let named = |key: &str| named_token(metadata, key, &tokens);
        let (begin, end) = (named("tokenizer.ggml.bos_token_id")?, named("tokenizer.ggml.eos_token_id")?);
        let others = [end, named("tokenizer.ggml.eot_token_id")?, named("tokenizer.ggml.eom_token_id")?];
        let listed = with(Kind::Control).filter(|(token, _)| ENDS.contains(&token.as_str()));
        let adds_begin = metadata.optional_flag("tokenizer.ggml.add_bos_token")?;
        Ok(Self {
            merging: merging(vocabulary, &metadata.texts("tokenizer.ggml.merges")?, way)?,
            ends: listed.map(|(_, id)| id).chain(others.into_iter().flatten().map(|(id, _)| id)).collect(),
            control: FixedTokens::new(with(Kind::Control)),
            added: FixedTokens::new(with(Kind::Added)),
            pieces: tokens.iter().zip(&kinds).map(|(token, kind)| piece(token, *kind)).collect(),
            begin: begin.filter(|_| adds_begin.unwrap_or(way.begins_with_a_token())).map(|(id, _)| id),
            begin_text: begin.map(|(_, text)| text.to_owned()).unwrap_or_default(),
            end_text: end.map(|(_, text)| text.to_owned()).unwrap_or_default(),
        })
    }

    /// Tokens of a rendered chat: control tokens are recognised, then `shield` is taken out of the text between them.
    ///
    /// Bytes that the vocabulary does not have are left out, as llama.cpp does.
    ///
    /// # Errors
    /// `model-invalid` if the vocabulary cannot express the text.
    pub fn encode(&self, text: &str, shield: char) -> Result<Vec<u32>, Failure> {
        let mut ids = Vec::new();
        for part in self.control.split(text) {
            match part {
                Part::Token(id) => ids.push(id),
                Part::Text(text) => self.encode_text(&text.replace(shield, ""), &mut ids)?,
            }
        }
        match self.begin {
            Some(begin) if ids.first() != Some(&begin) => ids.insert(0, begin),
            _ => {}
        }
        Ok(ids)
    }

    fn encode_text(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), Failure> {
        for part in self.added.split(text) {
            match part {
                Part::Token(id) => ids.push(id),
                Part::Text(text) => {
                    let encoding = self.merging.encode_fast(text, false);
                    ids.extend_from_slice(encoding.map_err(|cause| invalid(cause.to_string()))?.get_ids());
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

    /// The bytes of a token; empty for control tokens and unknown ids.
    pub fn piece(&self, id: u32) -> &[u8] {
        self.pieces.get(id as usize).map_or(&[], |piece| piece)
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

fn kinds(metadata: Metadata<'_>, tokens: usize) -> Result<Vec<Kind>, Failure> {
    let types = metadata.counts("tokenizer.ggml.token_type")?;
    if types.len() != tokens {
        return Err(invalid(format!("its tokenizer has {tokens} tokens and {} token types", types.len())));
    }
    // 2 is the token for what is unknown; 6 is a byte, which vocabularies of this kind do not have.
    types
        .into_iter()
        .map(|kind| match kind {
            1 | 6 => Ok(Kind::Text),
            2 | 3 => Ok(Kind::Control),
            4 => Ok(Kind::Added),
            5 => Ok(Kind::Unused),
            other => Err(invalid(format!("its tokenizer has a token of the type {other}"))),
        })
        .collect()
}

fn named_token<'a>(metadata: Metadata<'_>, key: &str, tokens: &[&'a str]) -> Result<Option<(u32, &'a str)>, Failure> {
    let Some(id) = metadata.optional_count(key)? else { return Ok(None) };
    match tokens.get(id as usize) {
        Some(text) => Ok(Some((id, text))),
        None => Err(invalid(format!("{key} in its header is {id}, but there are {} tokens", tokens.len()))),
    }
}

fn piece(token: &str, kind: Kind) -> Box<[u8]> {
    match kind {
        Kind::Text => alphabet::bytes_of(token).into(),
        Kind::Added => token.as_bytes().into(),
        Kind::Control | Kind::Unused => Box::default(),
    }
}

fn merging(vocabulary: Vocab, merges: &[&str], way: Way) -> Result<tokenizers::Tokenizer, Failure> {
    let mut pairs = Vec::with_capacity(merges.len());
    for merge in merges {
        let known = |token: &str| vocabulary.contains_key(token);
        match merge.split_once(' ') {
            Some((left, right)) if known(left) && known(right) && known(&format!("{left}{right}")) => {
                pairs.push((left.to_owned(), right.to_owned()));
            }
            _ => return Err(invalid(format!("its tokenizer merges {merge:?}, which is not in its vocabulary"))),
        }
    }
    let built = BPE::builder().vocab_and_merges(vocabulary, pairs).ignore_merges(way.ignores_merges()).build();
    let mut merging = tokenizers::Tokenizer::new(built.map_err(|cause| invalid(cause.to_string()))?);
    merging.with_pre_tokenizer(Some(way.splitter()?));
    Ok(merging)
}
