//! Vocabularies of the GPT-2 kind: byte-level byte-pair encoding.
//!
//! Text is split into words (`tokenizer.ggml.pre` says how), then pairs of bytes are merged in the order that the file
//! lists. The merging is done by the `tokenizers` crate.

use rbee_schema::Failure;
use tokenizers::{
    Tokenizer,
    models::bpe::{BPE, Vocab},
};

use super::{
    invalid,
    metadata::Metadata,
    split::Way,
    vocabulary::{Kind, Vocabulary},
};

/// Splits and merges as the file says.
///
/// # Errors
/// `model-invalid` for merges of what is not in the vocabulary.
pub(super) fn from_metadata(
    metadata: Metadata<'_>,
    vocabulary: &Vocabulary<'_>,
    way: Way,
) -> Result<Tokenizer, Failure> {
    // Control and added tokens are not in it: no merge can make one.
    let texts: Vocab = vocabulary.of_kind(Kind::Text).collect();
    let pairs = pairs(&texts, &metadata.texts("tokenizer.ggml.merges")?)?;
    let built = BPE::builder().vocab_and_merges(texts, pairs).ignore_merges(way.ignores_merges()).build();
    let mut merging = Tokenizer::new(built.map_err(|cause| invalid(cause.to_string()))?);
    merging.with_pre_tokenizer(Some(way.splitter()?));
    Ok(merging)
}

fn pairs(texts: &Vocab, merges: &[&str]) -> Result<Vec<(String, String)>, Failure> {
    let known = |token: &str| texts.contains_key(token);
    let pair = |merge: &str| match merge.split_once(' ') {
        Some((left, right)) if known(left) && known(right) && known(&format!("{left}{right}")) => {
            Ok((left.to_owned(), right.to_owned()))
        }
        _ => {
            let merge = super::shown(merge);
            Err(invalid(format!("its tokenizer merges {merge:?}, which is not in its vocabulary")))
        }
    };
    merges.iter().map(|merge| pair(merge)).collect()
}
