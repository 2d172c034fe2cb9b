//! The engine that runs models on the processor: GGUF files of every architecture in [`crate::model::architecture`].
//!
//! One step computes the next tokens of all sequences together. Keys and values stand in pages; sequences that begin alike
//! share them. A sequence that finds no room for its next page gives way to older ones and is read anew later: as its
//! tokens' logits depend on nothing but the tokens before, it goes on exactly as it would have. Step 5 of a job's path.

mod engine;
mod file;
mod memory;
mod running;
mod score;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};

use rbee_decoder::{Cache, Decoder, Description, Isa, LoadError, Pool, Weights};
use rbee_kernels::PAGE;
use rbee_schema::{Failure, FailureCode};

use self::{engine::DecoderEngine, file::File};
use super::{LoadOptions, LoadProgress, Loaded, context_size};
use crate::model::{architecture, text::ModelText};

/// Tokens of a sequence where nobody says otherwise: what most chats stay below, and what memory is reckoned with.
const DEFAULT_CONTEXT: u32 = 4096;

/// Loads a file. Failures name it.
pub(super) fn load(
    path: &Path,
    options: &LoadOptions,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Loaded, Failure> {
    load_file(path, options, progress)
        .map_err(|failure| Failure { message: format!("{}: {}", path.display(), failure.message), ..failure })
}

fn load_file(path: &Path, options: &LoadOptions, progress: &mut dyn FnMut(LoadProgress)) -> Result<Loaded, Failure> {
    let file = File::open(path)?;
    architecture::check(file.metadata())?;
    let text = ModelText::from_metadata(file.metadata(), options.template)?;
    let wanted = options.context.unwrap_or(DEFAULT_CONTEXT);
    let description = architecture::describe(file.metadata(), &file, text.tokens(), wanted)?;
    let possible = u32::try_from(description.context).unwrap_or(u32::MAX);
    let context = context_size(options.context, possible)?.min(wanted);
    let pages = pages(options, &description, context)?;
    let memory = memory::estimate(&file, &description, options.slots, pages);
    let progress = &mut |at: LoadProgress| progress(LoadProgress { memory: Some(memory), ..at });
    progress(LoadProgress { done_bytes: file.header_bytes(), total_bytes: file.length(), memory: None });
    memory::check(&memory, options, context)?;
    let (pool, isa) = (Pool::new(options.threads.map_or_else(threads, |threads| threads as usize)), Isa::detect());
    let weights = read_weights(&file, &pool, isa, &description, progress)?;
    let cache = Cache::new(description.page_bytes() / 2, pages);
    let mut engine = DecoderEngine::new(Decoder::new(description, weights, pool, isa), cache, options.slots, context);
    engine.try_out()?;
    progress(LoadProgress { done_bytes: file.length(), total_bytes: file.length(), memory: None });
    Ok(Loaded { engine: Box::new(engine), text: Arc::new(text), context })
}

/// As many threads as may run at a time.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// How many pages there may be: what is asked for, or a context for each slot and one more for what is remembered.
fn pages(options: &LoadOptions, description: &Description, context: u32) -> Result<usize, Failure> {
    let page = description.page_bytes() as u64;
    let least = (context as usize).div_ceil(PAGE) + 1;
    let Some(bytes) = options.cache_bytes else { return Ok((options.slots as usize + 1) * least) };
    let pages = usize::try_from(bytes / page).unwrap_or(usize::MAX);
    if pages < least {
        let needed = (least as u64 * page).div_ceil(1 << 20);
        return Err(Failure::new(
            FailureCode::InvalidRequest,
            format!(
                "a context of {context} tokens takes {needed} MiB of cache and {} MiB are allowed: allow more, or ask for a \
                 shorter context",
                bytes >> 20
            ),
        ));
    }
    Ok(pages)
}

fn read_weights(
    file: &File,
    pool: &Pool,
    isa: Isa,
    description: &Description,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Weights, Failure> {
    let total_bytes = file.length();
    let mut done_bytes = file.header_bytes();
    let mut told = 0;
    let mut tell = |bytes: usize| {
        done_bytes = (done_bytes + bytes as u64).min(total_bytes);
        let percent = done_bytes * 100 / total_bytes.max(1);
        if percent > told {
            told = percent;
            progress(LoadProgress { done_bytes, total_bytes, memory: None });
        }
    };
    let read = catch_unwind(AssertUnwindSafe(|| Weights::load(pool, isa, description, file, &mut tell)));
    let invalid = |message: String| Failure::new(FailureCode::ModelInvalid, message);
    let weights =
        read.map_err(|_| invalid("its weights contradict its header".into()))?.map_err(|error| match error {
            LoadError::Missing { .. } | LoadError::Shape { .. } | LoadError::Pack { .. } => invalid(error.to_string()),
        })?;
    match file.unused() {
        None => Ok(weights),
        Some(name) => Err(Failure::new(
            FailureCode::ModelUnsupported,
            format!("it has the tensor {name}, which its architecture here does not know"),
        )),
    }
}
