//! The memory that a model will take, and whether it may.

use rbee_schema::{ByteSize, Failure, FailureCode, MemoryEstimate};
use rbee_transformer::{DecoderDescription, ModelMemory, StepLimits};

use super::{Source, engine::ROWS_WITH_GUESSES};
use crate::{contract::LoadOptions, decide::batch};

/// The program before it has a model, with its threads and its connection. This and [`FOR_A_BYTE`] were chosen, not measured
/// apart: with them the whole estimate was 1.07 times the peak of SmolLM2-135M and 1.01 times that of Gemma 3 270M.
const PROGRAM: u64 = 21 << 20;

/// What tokenizer and chat template take for each byte that says what they are, most of which is the vocabulary.
const FOR_A_BYTE: u64 = 13;

/// Reckons from the header alone, with so many pages of keys and values.
pub(super) fn estimate(
    source: &dyn Source,
    description: &DecoderDescription,
    slots: u32,
    pages: usize,
) -> MemoryEstimate {
    let slots = slots as usize;
    let limits =
        StepLimits { rows: batch::max_rows(slots, ROWS_WITH_GUESSES), logit_rows: slots.max(ROWS_WITH_GUESSES) };
    let memory = ModelMemory::estimate(description, source.sizes().into_iter(), pages, limits);
    let program = PROGRAM + FOR_A_BYTE * source.text_bytes();
    MemoryEstimate {
        program_bytes: program,
        weights_bytes: memory.weights,
        cache_bytes: memory.cache,
        workspace_bytes: memory.workspace,
        total_bytes: memory.peak().saturating_add(program),
    }
}

/// Refuses what does not fit.
pub(super) fn check(estimate: &MemoryEstimate, options: &LoadOptions, context: u32) -> Result<(), Failure> {
    let Some(limit) = options.memory_bytes.filter(|limit| estimate.total_bytes > *limit) else { return Ok(()) };
    let MemoryEstimate { program_bytes, weights_bytes, cache_bytes, workspace_bytes, total_bytes } = *estimate;
    let what_to_do = if program_bytes + weights_bytes >= limit {
        "use a smaller model, or allow more with limits.memory (--memory)".to_owned()
    } else {
        format!(
            "lower the context (--context, now {context}), the slots (--slots, now {}) or the cache (--cache-memory, now {}), \
             or allow more with limits.memory (--memory)",
            options.slots,
            rounded(cache_bytes)
        )
    };
    Err(Failure::new(
        FailureCode::OutOfMemory,
        format!(
            "it needs {} of memory (weights {}, cache {}, workspace {}, program {}) and may use {}: {what_to_do}",
            rounded(total_bytes),
            rounded(weights_bytes),
            rounded(cache_bytes),
            rounded(workspace_bytes),
            rounded(program_bytes),
            ByteSize(limit >> 20 << 20),
        ),
    ))
}

/// People compare MiB, not bytes. Rounded up, so that what does not fit looks so.
fn rounded(bytes: u64) -> ByteSize {
    ByteSize(bytes.div_ceil(1 << 20) << 20)
}
