//! The engine that runs models on the processor: GGUF files of every architecture in [`crate::architecture`], and folders
//! with safetensors of those in [`crate::architecture::DecoderConfig`].
//!
//! One step computes the next tokens of all sequences together. Keys and values stand in pages; sequences that begin alike
//! share them. A sequence that finds no room for its next page gives way to older ones and is read anew later: as its
//! tokens' logits depend on nothing but the tokens before, it goes on exactly as it would have. Step 5 of a job's path.

mod engine;
mod file;
mod folder;
mod memory;
mod running;
mod score;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};

use rbee_kernels::PAGE_TOKENS;
use rbee_schema::{Failure, FailureCode};
use rbee_transformer::{
    Decoder, DecoderDescription, DecoderWeights, Isa, KvCache, LoadError, Pool, RopePairing, TensorSize, TensorSource,
};

use self::{engine::DecoderEngine, file::File, folder::Folder};
use crate::{
    architecture,
    contract::{LoadOptions, LoadProgress, Loaded},
    model_file::gguf::Metadata,
    text::ModelText,
};

/// Tokens of a sequence where nobody says otherwise: what most chats stay below, and what memory is reckoned with.
const DEFAULT_CONTEXT: u32 = 4096;

/// What a model is read from.
trait Source: TensorSource {
    /// What its header says, in the words of GGUF files.
    fn metadata(&self) -> Metadata<'_>;

    /// How many tokens its vocabulary has.
    fn tokens(&self) -> usize;

    /// Its text side.
    fn into_text(self: Box<Self>) -> ModelText;

    /// Its bytes.
    fn length(&self) -> u64;

    /// Bytes before the tensors.
    fn header_bytes(&self) -> u64;

    /// The size of each tensor.
    fn sizes(&self) -> Vec<TensorSize<'_>>;

    /// Bytes that say what its vocabulary and its template are.
    fn text_bytes(&self) -> u64;

    /// A tensor that nobody has asked for.
    fn unused(&self) -> Option<String>;

    /// Which numbers of a head turn together, where that is not what the architecture's GGUF files have.
    fn pairs(&self) -> Option<RopePairing>;
}

/// Loads a file. Failures name it.
pub(crate) fn load(
    path: &Path,
    options: &LoadOptions,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Loaded, Failure> {
    File::open(path, options.template)
        .and_then(|file| load_from(Box::new(file), options, progress))
        .map_err(|failure| Failure { message: format!("{}: {}", path.display(), failure.message), ..failure })
}

/// Loads a folder.
pub(crate) fn load_folder(
    path: &Path,
    options: &LoadOptions,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Loaded, Failure> {
    load_from(Box::new(Folder::open(path, options.template)?), options, progress)
}

fn load_from(
    source: Box<dyn Source>,
    options: &LoadOptions,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Loaded, Failure> {
    let wanted = options.context.unwrap_or(DEFAULT_CONTEXT);
    let mut description = architecture::describe(source.metadata(), &*source, source.tokens(), wanted)?;
    if let Some(pairs) = source.pairs() {
        description.ropes.iter_mut().for_each(|rope| rope.pairing = pairs);
    }
    let possible = u32::try_from(description.context).unwrap_or(u32::MAX);
    let context = options.context_within(possible)?.min(wanted);
    let pages = pages(options, &description, context)?;
    let memory = memory::estimate(&*source, &description, options.slots, pages);
    let progress = &mut |at: LoadProgress| progress(LoadProgress { memory: Some(memory), ..at });
    progress(LoadProgress { done_bytes: source.header_bytes(), total_bytes: source.length(), memory: None });
    memory::check(&memory, options, context)?;
    let (pool, isa) = (Pool::new(options.thread_count()), Isa::detect());
    let weights = read_weights(&*source, &pool, &description, progress)?;
    let cache = KvCache::new(description.page_bytes() / 2, pages);
    let mut engine = DecoderEngine::new(Decoder::new(description, weights, pool, isa), cache, options.slots, context);
    engine.try_out()?;
    progress(LoadProgress { done_bytes: source.length(), total_bytes: source.length(), memory: None });
    Ok(Loaded { engine: Box::new(engine), text: Arc::new(source.into_text()), context })
}

/// How many pages there may be: what is asked for, or a context for each slot and one more for what is remembered.
fn pages(options: &LoadOptions, description: &DecoderDescription, context: u32) -> Result<usize, Failure> {
    let page = description.page_bytes() as u64;
    let least = (context as usize).div_ceil(PAGE_TOKENS) + 1;
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
    file: &dyn Source,
    pool: &Pool,
    description: &DecoderDescription,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<DecoderWeights, Failure> {
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
    let read = catch_unwind(AssertUnwindSafe(|| DecoderWeights::load(pool, description, file, &mut tell)));
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
