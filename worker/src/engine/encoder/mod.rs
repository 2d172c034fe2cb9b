//! The engine that turns texts into vectors on the processor: folders with safetensors of every architecture in
//! [`crate::architecture::ENCODER_TYPES`]. Step 5 of a job's path.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
    time::Instant,
};

use rbee_schema::{Failure, FailureCode};
use rbee_transformer::{Encoder, EncoderDescription, EncoderWeights, Isa, LoadError, Pool, Tensor, TensorSource};

use crate::{
    architecture::{EncoderModel, describe_encoder},
    contract::{Engine, EngineStats, LoadOptions, LoadProgress, Loaded, Sequence, SequenceId},
    model_file::Safetensors,
    sample::Token,
    text::EncoderText,
};

/// Before the names of tensors, where a checkpoint holds more than the encoder.
const PREFIXES: [&str; 3] = ["", "bert.", "roberta."];
/// Told at most so often while weights are packed.
const PARTS: u64 = 100;

/// Loads a folder.
pub(crate) fn load(
    path: &Path,
    options: &LoadOptions,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Loaded, Failure> {
    let EncoderModel { description, max_tokens, prompt } = describe_encoder(path)?;
    let file = Safetensors::open(path)?;
    let file = Prefixed::new(file)?;
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
    let weights = read_weights(&file, &pool, &description, progress)?;
    let mut engine =
        EncoderEngine { encoder: Encoder::new(description, weights, pool, isa), stats: EngineStats::default() };
    engine.try_out()?;
    progress(LoadProgress { done_bytes: file.tensors.length(), total_bytes: file.tensors.length(), memory: None });
    Ok(Loaded { engine: Box::new(engine), text: Arc::new(text), context })
}

/// Tensors whose names begin alike.
struct Prefixed {
    tensors: Safetensors,
    prefix: &'static str,
}

impl Prefixed {
    fn new(tensors: Safetensors) -> Result<Self, Failure> {
        let is_there = |prefix: &&str| tensors.shape(&format!("{prefix}embeddings.word_embeddings.weight")).is_some();
        let prefix = PREFIXES.into_iter().find(is_there).unwrap_or_default();
        tensors.check_types(|name| {
            name.strip_prefix(prefix).is_some_and(|name| {
                name.starts_with("encoder.") || (name.starts_with("embeddings.") && !name.ends_with("position_ids"))
            })
        })?;
        Ok(Self { tensors, prefix })
    }
}

impl TensorSource for Prefixed {
    fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        self.tensors.tensor(&format!("{}{name}", self.prefix))
    }

    fn release(&self, bytes: &[u8]) {
        self.tensors.release(bytes);
    }
}

fn read_weights(
    file: &Prefixed,
    pool: &Pool,
    description: &EncoderDescription,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<EncoderWeights, Failure> {
    let total_bytes = file.tensors.length();
    let (mut done_bytes, mut told) = (0, 0);
    let mut tell = |bytes: usize| {
        done_bytes = (done_bytes + bytes as u64).min(total_bytes);
        let part = done_bytes * PARTS / total_bytes.max(1);
        if part > told {
            told = part;
            progress(LoadProgress { done_bytes, total_bytes, memory: None });
        }
    };
    EncoderWeights::load(pool, description, file, &mut tell).map_err(|error| match error {
        LoadError::Missing { .. } | LoadError::Shape { .. } | LoadError::Pack { .. } => {
            Failure::new(FailureCode::ModelInvalid, error.to_string())
        }
    })
}

struct EncoderEngine {
    encoder: Encoder,
    stats: EngineStats,
}

impl EncoderEngine {
    /// Computes one vector. Finds a model that computes nonsense.
    fn try_out(&mut self) -> Result<(), Failure> {
        let made = catch_unwind(AssertUnwindSafe(|| self.encoder.encode(&[&[0, 0]])));
        let is_sound = made.is_ok_and(|made| made.iter().flatten().all(|number| number.is_finite()));
        let message = "it computes no numbers: its weights may be damaged";
        if is_sound { Ok(()) } else { Err(Failure::new(FailureCode::ModelInvalid, message)) }
    }
}

impl Engine for EncoderEngine {
    fn admit(&mut self, _: SequenceId, _: Sequence) -> Result<(), Failure> {
        Err(Failure::new(FailureCode::InvalidRequest, "this engine computes embeddings and continues no text"))
    }

    fn step(&mut self) -> Vec<(SequenceId, Result<Token, Failure>)> {
        Vec::new()
    }

    fn release(&mut self, _: SequenceId) {}

    fn stats(&self) -> EngineStats {
        self.stats
    }

    fn embed(&mut self, texts: &[&[u32]]) -> Result<Vec<Vec<f32>>, Failure> {
        let started = Instant::now();
        let description = self.encoder.description();
        let (longest, vocabulary) = (description.max_tokens(), description.vocabulary);
        let is_sound = |text: &&[u32]| {
            (1..=longest).contains(&text.len()) && text.iter().all(|token| (*token as usize) < vocabulary)
        };
        if !texts.iter().all(is_sound) {
            let message = format!("a text has no tokens, more than {longest}, or one that is not of {vocabulary}");
            return Err(Failure::new(FailureCode::InvalidRequest, message));
        }
        let vectors = self.encoder.encode(texts);
        self.stats.prompt_tokens += texts.iter().map(|text| text.len() as u64).sum::<u64>();
        self.stats.steps += 1;
        self.stats.busy += started.elapsed();
        Ok(vectors)
    }
}
