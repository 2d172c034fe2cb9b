//! The engine that runs models: GGUF files of the architecture `llama`, computed by candle on the CPU, or on CUDA or
//! Metal where the worker was built with these features.
//!
//! Each sequence has a model of its own, which shares the weights with all others and owns its cache of keys and
//! values. A step advances them one after another.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
    time::Instant,
};

use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_llama::{MAX_SEQ_LEN, ModelWeights};
use rbee_schema::{Failure, FailureCode, Sampling};

use super::{
    Engine, EngineStats, LoadOptions, LoadProgress, Loaded, Sequence, SequenceId, Token, check_admission,
    context_filled, context_size, progress::Watched, requantise::Requantised,
};
use crate::{
    model::{
        gguf::Gguf,
        llama::{self, Llama},
        text::ModelText,
    },
    sample::sample,
};

/// Tokens of a prompt that are read in one step: enough to keep the kernels busy (their largest tiles have 32 rows),
/// few enough that other sequences do not stall noticeably.
const PROMPT_PART: usize = 64;

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
    let gguf = Gguf::open(path)?;
    llama::check_architecture(gguf.metadata())?;
    let text = ModelText::from_metadata(gguf.metadata())?;
    let llama = Llama::check(gguf.metadata(), &gguf.content.tensor_infos, text.tokens())?;
    let context = context_size(options.context, llama.context.min(MAX_SEQ_LEN as u32))?;
    let device = device()?;
    let total_bytes = gguf.length;
    let weights = read_weights(gguf, &device, progress)?;
    let mut engine = CandleEngine {
        weights,
        device,
        slots: options.slots,
        context,
        vocabulary: llama.vocabulary,
        running: Vec::new(),
        stats: EngineStats::default(),
    };
    engine.try_out()?;
    progress(LoadProgress { done_bytes: total_bytes, total_bytes });
    Ok(Loaded { engine: Box::new(engine), text: Arc::new(text), context })
}

fn read_weights(gguf: Gguf, device: &Device, progress: &mut dyn FnMut(LoadProgress)) -> Result<ModelWeights, Failure> {
    let Gguf { mut content, reader, length } = gguf;
    let watched = Watched::new(reader, content.tensor_data_offset.min(length), length, progress);
    let mut reader = Requantised::new(&mut content, watched, device);
    let invalid =
        |cause: String| Failure::new(FailureCode::ModelInvalid, format!("its weights cannot be used: {cause}"));
    // Headers are checked before; whatever contradiction is left must not end the worker.
    let read = catch_unwind(AssertUnwindSafe(|| ModelWeights::from_gguf(content, &mut reader, device)));
    read.map_err(|_| invalid("they contradict the header".into()))?.map_err(|error| invalid(first_line(&error)))
}

#[cfg(feature = "cuda")]
fn device() -> Result<Device, Failure> {
    Device::new_cuda(0).map_err(|error| internal(&error))
}

#[cfg(all(feature = "metal", not(feature = "cuda")))]
fn device() -> Result<Device, Failure> {
    Device::new_metal(0).map_err(|error| internal(&error))
}

#[cfg(not(any(feature = "cuda", feature = "metal")))]
fn device() -> Result<Device, Failure> {
    Ok(Device::Cpu)
}

fn internal(error: &candle_core::Error) -> Failure {
    Failure::new(FailureCode::Internal, format!("candle: {}", first_line(error)))
}

/// The errors of candle may carry a backtrace in further lines.
fn first_line(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

struct CandleEngine {
    /// Never run itself: its cache stays empty, so that a clone of it begins afresh.
    weights: ModelWeights,
    device: Device,
    slots: u32,
    context: u32,
    /// Ids from 0 to below this have an embedding.
    vocabulary: u32,
    /// In the order of their admission.
    running: Vec<Running>,
    stats: EngineStats,
}

struct Running {
    id: SequenceId,
    model: ModelWeights,
    /// Prompt, then answer.
    tokens: Vec<u32>,
    /// How many of them are the prompt's.
    prompt: usize,
    /// How many of them the cache holds.
    cached: usize,
    sampling: Sampling,
    /// Whether it has made a token here.
    made_any: bool,
}

impl CandleEngine {
    /// Makes one token after two. Finds a model that computes nonsense, and lets candle lay out the weights for its
    /// kernels now instead of in the first job.
    fn try_out(&mut self) -> Result<(), Failure> {
        let sequence = Sequence { prompt: vec![0, 0], emitted: Vec::new(), sampling: Sampling::GREEDY };
        self.admit(SequenceId(0), sequence)?;
        let made = catch_unwind(AssertUnwindSafe(|| self.step()));
        self.running.clear();
        self.stats = EngineStats::default();
        let panicked = |_| Failure::new(FailureCode::ModelInvalid, "it cannot be computed: its header may be damaged");
        made.map_err(panicked)?.into_iter().try_for_each(|(_, token)| token.map(drop))
    }
}

impl Engine for CandleEngine {
    fn admit(&mut self, id: SequenceId, sequence: Sequence) -> Result<(), Failure> {
        let admitted = self.running.iter().map(|running| running.id);
        check_admission(id, &sequence, admitted, self.slots, self.context)?;
        let Sequence { prompt: mut tokens, emitted, sampling } = sequence;
        let prompt = tokens.len();
        tokens.extend(emitted);
        if let Some(token) = tokens.iter().find(|&&token| token >= self.vocabulary) {
            let size = self.vocabulary;
            return Err(Failure::new(FailureCode::Internal, format!("token {token} is not one of the model's {size}")));
        }
        self.running.push(Running {
            id,
            model: self.weights.clone(),
            tokens,
            prompt,
            cached: 0,
            sampling,
            made_any: false,
        });
        Ok(())
    }

    fn step(&mut self) -> Vec<(SequenceId, Result<Token, Failure>)> {
        let started = Instant::now();
        if self.running.is_empty() {
            return Vec::new();
        }
        let mut made = Vec::with_capacity(self.running.len());
        let (context, device, stats) = (self.context, &self.device, &mut self.stats);
        self.running.retain_mut(|running| {
            let token = running.advance(context, device, stats).transpose();
            let goes_on = !matches!(token, Some(Err(_)));
            made.extend(token.map(|token| (running.id, token)));
            goes_on
        });
        self.stats.steps += 1;
        self.stats.busy += started.elapsed();
        made
    }

    fn release(&mut self, id: SequenceId) {
        self.running.retain(|running| running.id != id);
    }

    fn stats(&self) -> EngineStats {
        let cached_tokens = self.running.iter().map(|running| running.cached as u64).sum();
        EngineStats { sequences: self.running.len() as u32, cached_tokens, ..self.stats }
    }
}

impl Running {
    /// Reads the next part of the tokens; once all are read, makes one more.
    fn advance(&mut self, context: u32, device: &Device, stats: &mut EngineStats) -> Result<Option<Token>, Failure> {
        if self.tokens.len() >= context as usize {
            return Err(context_filled(context));
        }
        let part = &self.tokens[self.cached..self.tokens.len().min(self.cached + PROMPT_PART)];
        let logits = Tensor::new(part, device)
            .and_then(|part| self.model.forward(&part.unsqueeze(0)?, self.cached))
            .map_err(|error| internal(&error))?;
        // After the first token of the answer, what is read is only ever the token that was made last.
        stats.prompt_tokens += if self.made_any { 0 } else { part.len() as u64 };
        self.cached += part.len();
        if self.cached < self.tokens.len() {
            return Ok(None);
        }
        let logits: Vec<f32> = logits.flatten_all().and_then(|all| all.to_vec1()).map_err(|error| internal(&error))?;
        let index = (self.tokens.len() - self.prompt) as u32;
        let token = sample(&logits, &self.tokens, &self.sampling, index)?;
        self.tokens.push(token.id);
        self.made_any = true;
        stats.answer_tokens += 1;
        Ok(Some(token))
    }
}
