//! Memory that a model needs, and the check against the limit of the process.

use rbee_schema::{ByteSize, Failure, FailureCode, MemoryEstimate};
use rbee_transformer::{DecoderDescription, ModelMemory, StepLimits};

use super::{batch::MAX_DRAFTING_ROWS, source::ModelSource};
use crate::{contract::LoadOptions, decide::batch};

/// Memory of the program without a model, with its threads and its connection. This and [`TEXT_FACTOR`] were chosen together,
/// not measured apart: with them the estimate was 1.07 times the peak of SmolLM2-135M and 1.01 times that of Gemma 3 270M.
const PROGRAM_BYTES: u64 = 21 << 20;

/// Bytes of memory of tokenizer and chat template per byte of their description, most of which is the vocabulary.
const TEXT_FACTOR: u64 = 13;

/// Estimates the memory of a model with `pages` pages of keys and values, from its header alone.
pub(super) fn estimate(
    source: &dyn ModelSource,
    description: &DecoderDescription,
    slots: u32,
    pages: usize,
) -> MemoryEstimate {
    let slots = slots as usize;
    let limits =
        StepLimits { rows: batch::max_rows(slots, MAX_DRAFTING_ROWS), logit_rows: slots.max(MAX_DRAFTING_ROWS) };
    let memory = ModelMemory::estimate(description, source.tensor_sizes().into_iter(), pages, limits);
    let program = PROGRAM_BYTES + TEXT_FACTOR * source.text_bytes();
    MemoryEstimate {
        program_bytes: program,
        weights_bytes: memory.weights,
        cache_bytes: memory.cache,
        workspace_bytes: memory.workspace,
        total_bytes: memory.peak().saturating_add(program),
    }
}

/// Refuses a model that does not fit into the memory limit, and names the settings that would help.
///
/// # Errors
/// `out-of-memory`.
pub(super) fn check(estimate: &MemoryEstimate, options: &LoadOptions, context: u32) -> Result<(), Failure> {
    let Some(limit) = options.memory_bytes.filter(|limit| estimate.total_bytes > *limit) else { return Ok(()) };
    let MemoryEstimate { program_bytes, weights_bytes, cache_bytes, workspace_bytes, total_bytes } = *estimate;
    let remedy = if program_bytes + weights_bytes >= limit {
        "raise the model's --memory, or use a smaller model".to_owned()
    } else {
        format!("raise the model's --memory, or lower its --context (now {context}) or --slots (now {})", options.slots)
    };
    Err(Failure::new(
        FailureCode::OutOfMemory,
        format!(
            "it needs {} of memory (weights {}, cache {}, workspace {}, program {}) and may use {}: {remedy}",
            rounded(total_bytes),
            rounded(weights_bytes),
            rounded(cache_bytes),
            rounded(workspace_bytes),
            rounded(program_bytes),
            ByteSize(limit >> 20 << 20),
        ),
    ))
}

/// Rounds up to whole MiB, which are easier to compare. Up, so that a model that does not fit never seems to.
fn rounded(bytes: u64) -> ByteSize {
    ByteSize(bytes.div_ceil(1 << 20) << 20)
}
