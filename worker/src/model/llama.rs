//! The architecture `llama`, as far as the engine runs it.
//!
//! The engine takes a header at its word and ignores tensors that it does not know. So that it neither panics nor
//! quietly computes something else, a file passes here first: exactly the tensors that are used, in the shapes that the
//! counts ask for.

use std::collections::{BTreeSet, HashMap};

use candle_core::quantized::gguf_file::TensorInfo;
use rbee_schema::Failure;

use super::{invalid, metadata::Metadata, unsupported};

/// The architectures that the engine runs, as in `general.architecture`.
pub const SUPPORTED: [&str; 1] = ["llama"];

/// Tensors in each block of the network.
const TENSORS_PER_BLOCK: usize = 9;
/// The smallest context that can be declared.
const SMALLEST_CONTEXT: usize = 16;
/// Scaling factors of rotary positions, which the engine does not read.
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// The counts of a model; all are at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Llama {
    /// Tokens that the model was made for.
    pub context: u32,
    /// Rows of its embedding: the ids that it knows.
    pub vocabulary: u32,
    blocks: usize,
    embedding: usize,
    feed_forward: usize,
    key_values: usize,
}

/// Refuses a file of another architecture, or a part of one.
///
/// # Errors
/// `model-unsupported`, naming what was found and what is supported.
pub fn check_architecture(metadata: Metadata<'_>) -> Result<(), Failure> {
    let architecture = metadata.text("general.architecture")?;
    if !SUPPORTED.contains(&architecture) {
        let supported = SUPPORTED.join(", ");
        return Err(unsupported(format!("its architecture is {architecture:?}: supported are {supported}")));
    }
    match metadata.optional_count("split.count")? {
        None | Some(0 | 1) => Ok(()),
        Some(parts) => {
            Err(unsupported(format!("it is one of {parts} parts: merge them with llama-gguf-split --merge")))
        }
    }
}

impl Llama {
    /// Reads the counts and checks every tensor against them. `tokens` is the size of the tokenizer's vocabulary.
    ///
    /// # Errors
    /// `model-invalid` where the file contradicts itself, `model-unsupported` where it needs what the engine lacks.
    pub fn check(
        metadata: Metadata<'_>,
        tensors: &HashMap<String, TensorInfo>,
        tokens: usize,
    ) -> Result<Self, Failure> {
        refuse_variants(metadata)?;
        check_numbers(metadata)?;
        let llama = Self::counts(metadata, tensors)?;
        if (llama.vocabulary as usize) < tokens {
            let rows = llama.vocabulary;
            return Err(invalid(format!("its tokenizer has {tokens} tokens and its embedding {rows} rows")));
        }
        llama.check_tensors(tensors)?;
        Ok(llama)
    }

    fn counts(metadata: Metadata<'_>, tensors: &HashMap<String, TensorInfo>) -> Result<Self, Failure> {
        let count = |key: &str| match metadata.count(key)? {
            0 => Err(invalid(format!("{key} in its header is 0"))),
            count => Ok(count as usize),
        };
        let (embedding, heads) = (count("llama.embedding_length")?, count("llama.attention.head_count")?);
        let key_value_heads = count("llama.attention.head_count_kv")?;
        if !embedding.is_multiple_of(heads) || !heads.is_multiple_of(key_value_heads) {
            return Err(invalid(format!(
                "{embedding} dimensions, {heads} heads and {key_value_heads} key-value heads do not divide each other"
            )));
        }
        let (head, rotary) = (embedding / heads, count("llama.rope.dimension_count")?);
        if rotary != head || !head.is_multiple_of(2) {
            return Err(unsupported(format!("{rotary} of the {head} dimensions of its heads are rotary, not all")));
        }
        let blocks = count("llama.block_count")?;
        if blocks > tensors.len() / TENSORS_PER_BLOCK {
            return Err(invalid(format!("its header says {blocks} blocks, but it has only {} tensors", tensors.len())));
        }
        let context = count("llama.context_length")?;
        if context < SMALLEST_CONTEXT {
            return Err(invalid(format!("its context is {context} tokens: expected at least {SMALLEST_CONTEXT}")));
        }
        let vocabulary = tensors.get("token_embd.weight").and_then(|tensor| tensor.shape.dims().first().copied());
        Ok(Self {
            context: context as u32,
            vocabulary: vocabulary.and_then(|rows| u32::try_from(rows).ok()).unwrap_or(0),
            blocks,
            embedding,
            feed_forward: count("llama.feed_forward_length")?,
            key_values: head * key_value_heads,
        })
    }

    fn check_tensors(&self, tensors: &HashMap<String, TensorInfo>) -> Result<(), Failure> {
        let mut unknown: BTreeSet<&str> = tensors.keys().map(String::as_str).collect();
        for (name, shape) in self.expected(tensors.contains_key("output.weight")) {
            let tensor = tensors.get(&name).ok_or_else(|| invalid(format!("its tensor {name} is missing")))?;
            if tensor.shape.dims() != shape {
                let found = tensor.shape.dims();
                return Err(invalid(format!("its tensor {name} has the shape {found:?}: expected {shape:?}")));
            }
            unknown.remove(name.as_str());
        }
        if unknown.remove(ROPE_FACTORS) {
            tracing::warn!("the model scales rotary positions ({ROPE_FACTORS}), which is ignored: answers may differ");
        }
        match unknown.first() {
            None => Ok(()),
            Some(name) => Err(unsupported(format!("it has the tensor {name}, which is not known to the engine"))),
        }
    }

    /// Names and shapes (rows first) of the tensors that the engine reads.
    fn expected(&self, own_output: bool) -> Vec<(String, Vec<usize>)> {
        let (rows, width, inner) = (self.vocabulary as usize, self.embedding, self.feed_forward);
        let mut expected =
            vec![("token_embd.weight".to_owned(), vec![rows, width]), ("output_norm.weight".to_owned(), vec![width])];
        if own_output {
            expected.push(("output.weight".to_owned(), vec![rows, width]));
        }
        let block: [(&str, Vec<usize>); TENSORS_PER_BLOCK] = [
            ("attn_norm", vec![width]),
            ("attn_q", vec![width, width]),
            ("attn_k", vec![self.key_values, width]),
            ("attn_v", vec![self.key_values, width]),
            ("attn_output", vec![width, width]),
            ("ffn_norm", vec![width]),
            ("ffn_gate", vec![inner, width]),
            ("ffn_up", vec![inner, width]),
            ("ffn_down", vec![width, inner]),
        ];
        for index in 0..self.blocks {
            expected.extend(block.iter().map(|(name, shape)| (format!("blk.{index}.{name}.weight"), shape.clone())));
        }
        expected
    }
}

fn refuse_variants(metadata: Metadata<'_>) -> Result<(), Failure> {
    if let Some(experts @ 2..) = metadata.optional_count("llama.expert_count")? {
        return Err(unsupported(format!("it is a mixture of {experts} experts: only dense models can be run")));
    }
    match metadata.optional_text("llama.rope.scaling.type")? {
        None | Some("none") => Ok(()),
        Some(kind) => Err(unsupported(format!("it scales rotary positions ({kind}), which the engine does not"))),
    }
}

fn check_numbers(metadata: Metadata<'_>) -> Result<(), Failure> {
    for key in ["llama.rope.freq_base", "llama.attention.layer_norm_rms_epsilon"] {
        if let Some(number) = metadata.optional_number(key)?
            && number <= 0.0
        {
            return Err(invalid(format!("{key} in its header is {number}: expected more than 0")));
        }
    }
    Ok(())
}
