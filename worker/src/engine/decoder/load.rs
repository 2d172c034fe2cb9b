//! Loading of a decoder model. Step 4 of a job's path.

use std::{path::Path, sync::Arc};

use rbee_kernels::PAGE_TOKENS;
use rbee_schema::{Failure, FailureCode};
use rbee_transformer::{Decoder, DecoderDescription, DecoderWeights, Isa, KvCache, Pool};

use super::{engine::DecoderEngine, folder_source::FolderSource, gguf_source::GgufSource, memory, source::ModelSource};
use crate::{
    architecture,
    contract::{LoadOptions, LoadProgress, Loaded},
    engine::weights::load_weights,
};

/// Context length in tokens if none is configured: most chats stay below it, and the memory of the KV cache grows with it.
const DEFAULT_CONTEXT: u32 = 4096;

/// Loads a GGUF file. Failures name the file.
pub(crate) fn load(
    path: &Path,
    options: &LoadOptions,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Loaded, Failure> {
    GgufSource::open(path, options.template)
        .and_then(|source| load_from(Box::new(source), options, progress))
        .map_err(|failure| Failure { message: format!("{}: {}", path.display(), failure.message), ..failure })
}

/// Loads a folder with safetensors.
pub(crate) fn load_folder(
    path: &Path,
    options: &LoadOptions,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Loaded, Failure> {
    load_from(Box::new(FolderSource::open(path, options.template)?), options, progress)
}

fn load_from(
    source: Box<dyn ModelSource>,
    options: &LoadOptions,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Loaded, Failure> {
    let requested = options.context.unwrap_or(DEFAULT_CONTEXT);
    let description = describe(&*source, requested)?;
    let possible = u32::try_from(description.context).unwrap_or(u32::MAX);
    let context = options.context_within(possible)?.min(requested);
    let pages = cache_pages(options, &description, context)?;
    let memory = memory::estimate(&*source, &description, options.slots, pages);
    let progress = &mut |at: LoadProgress| progress(LoadProgress { memory: Some(memory), ..at });
    progress(LoadProgress { done_bytes: source.header_bytes(), total_bytes: source.length(), memory: None });
    memory::check(&memory, options, context)?;
    let (pool, isa) = (Pool::new(options.thread_count()), Isa::detect());
    let weights = read_weights(&*source, &pool, &description, progress)?;
    let cache = KvCache::new(description.page_bytes() / 2, pages);
    let mut engine = DecoderEngine::new(Decoder::new(description, weights, pool, isa), cache, options.slots, context);
    engine.self_test()?;
    progress(LoadProgress { done_bytes: source.length(), total_bytes: source.length(), memory: None });
    Ok(Loaded { engine: Box::new(engine), text: Arc::new(source.into_text()), context })
}

fn describe(source: &dyn ModelSource, context: u32) -> Result<DecoderDescription, Failure> {
    let mut description = architecture::describe(source.metadata(), source, source.vocabulary_size(), context)?;
    if let Some(pairing) = source.rope_pairing() {
        description.ropes.iter_mut().for_each(|rope| rope.pairing = pairing);
    }
    Ok(description)
}

/// Number of pages of the KV cache: what the configured memory holds, or a context for each slot and one more for finished
/// sequences.
fn cache_pages(options: &LoadOptions, description: &DecoderDescription, context: u32) -> Result<usize, Failure> {
    let page_bytes = description.page_bytes() as u64;
    let context_pages = (context as usize).div_ceil(PAGE_TOKENS) + 1;
    let Some(bytes) = options.cache_bytes else { return Ok((options.slots as usize + 1) * context_pages) };
    let pages = usize::try_from(bytes / page_bytes).unwrap_or(usize::MAX);
    if pages < context_pages {
        let needed = (context_pages as u64 * page_bytes).div_ceil(1 << 20);
        return Err(Failure::new(
            FailureCode::InvalidRequest,
            format!(
                "a context of {context} tokens needs {needed} MiB of cache, but {} MiB are allowed: raise --cache-memory, or \
                 lower --context",
                bytes >> 20
            ),
        ));
    }
    Ok(pages)
}

fn read_weights(
    source: &dyn ModelSource,
    pool: &Pool,
    description: &DecoderDescription,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<DecoderWeights, Failure> {
    let pack = |report: &mut dyn FnMut(usize)| DecoderWeights::load(pool, description, source, report);
    let weights = load_weights(source.header_bytes(), source.length(), progress, pack)?;
    match source.unused_tensor() {
        None => Ok(weights),
        Some(name) => Err(Failure::new(
            FailureCode::ModelUnsupported,
            format!("the model has the tensor {name}, which is not part of its architecture in rbee"),
        )),
    }
}
