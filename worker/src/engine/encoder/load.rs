//! Loading of an encoder model. Step 4 of a job's path.

use std::{path::Path, sync::Arc};

use rbee_schema::{Failure, FailureCode};
use rbee_transformer::{Encoder, EncoderWeights, Isa, Pool};

use super::{engine::EncoderEngine, source::EncoderSource};
use crate::{
    architecture::{EncoderModel, describe_encoder},
    contract::{LoadOptions, LoadProgress, Loaded},
    engine::weights::load_weights,
    model_file::Safetensors,
    text::EncoderText,
};

/// Loads a folder with safetensors.
pub(crate) fn load(
    path: &Path,
    options: &LoadOptions,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Loaded, Failure> {
    let EncoderModel { description, max_tokens, prompt } = describe_encoder(path)?;
    let source = EncoderSource::new(Safetensors::open(path)?)?;
    let possible = u32::try_from(description.max_tokens()).unwrap_or(u32::MAX);
    options.context_within(possible)?;
    let context = options.context.unwrap_or_else(|| u32::try_from(max_tokens).unwrap_or(possible));
    let text = EncoderText::from_folder(path, context as usize, prompt)?;
    if text.vocabulary_size() > description.vocabulary {
        let (tokens, rows) = (text.vocabulary_size(), description.vocabulary);
        let message = format!("the tokenizer has {tokens} tokens and the embedding {rows} rows");
        return Err(Failure::new(FailureCode::ModelInvalid, message));
    }
    let (pool, isa) = (Pool::new(options.thread_count()), Isa::detect());
    let pack = |report: &mut dyn FnMut(usize)| EncoderWeights::load(&pool, &description, &source, report);
    let weights = load_weights(0, source.length(), progress, pack)?;
    let mut engine = EncoderEngine::new(Encoder::new(description, weights, pool, isa));
    engine.self_test()?;
    progress(LoadProgress { done_bytes: source.length(), total_bytes: source.length(), memory: None });
    Ok(Loaded { engine: Box::new(engine), text: Arc::new(text), context })
}
