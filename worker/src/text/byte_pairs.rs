//! Byte-level byte-pair encoding, as in GPT-2 (`tokenizer.ggml.model` = `gpt2`).
//!
//! The pre-tokenizer (`tokenizer.ggml.pre`) splits text into words. Pairs of bytes are then merged in the order that the file
//! lists. The `tokenizers` crate does the merging.

use rbee_schema::Failure;
use tokenizers::{
    Tokenizer,
    models::bpe::{BPE, Vocab},
};

use super::{
    pre_tokenizer::PreTokenizer,
    vocabulary::{TokenKind, Vocabulary},
};
use crate::model_file::{
    error::{invalid, printable},
    gguf::Metadata,
};

/// Builds the tokenizer that a GGUF file describes.
///
/// # Errors
/// `model-invalid` if a merge names a token that is not in the vocabulary.
pub(super) fn from_metadata(
    metadata: Metadata<'_>,
    vocabulary: &Vocabulary<'_>,
    pre_tokenizer: PreTokenizer,
) -> Result<Tokenizer, Failure> {
    // Without control and added tokens, so that no merge can make one.
    let texts: Vocab = vocabulary.of_kind(TokenKind::Text).collect();
    let merges = merges(&texts, &metadata.texts("tokenizer.ggml.merges")?)?;
    let bpe = BPE::builder().vocab_and_merges(texts, merges).ignore_merges(pre_tokenizer.ignores_merges()).build();
    let mut tokenizer = Tokenizer::new(bpe.map_err(|cause| invalid(cause.to_string()))?);
    tokenizer.with_pre_tokenizer(Some(pre_tokenizer.build()?));
    Ok(tokenizer)
}

fn merges(texts: &Vocab, merges: &[&str]) -> Result<Vec<(String, String)>, Failure> {
    let known = |token: &str| texts.contains_key(token);
    let pair = |merge: &str| match merge.split_once(' ') {
        Some((left, right)) if known(left) && known(right) && known(&format!("{left}{right}")) => {
            Ok((left.to_owned(), right.to_owned()))
        }
        _ => {
            let merge = printable(merge);
            Err(invalid(format!("the tokenizer merges {merge:?}, which is not in its vocabulary")))
        }
    };
    merges.iter().map(|merge| pair(merge)).collect()
}
