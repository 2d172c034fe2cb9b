//! The seam between the bus and inference.
//!
//! The bus half of the worker knows no tensor, and this half knows no message of the bus. Everything here is
//! synchronous and runs on one thread: [`load`] a model, [`Engine::admit`] sequences, [`Engine::step`] all of them
//! together, [`Engine::release`] what is finished.
//!
//! An engine keeps nothing that another worker could not rebuild: the next token is a function of the tokens so far and
//! of [`Sampling`] (see [`crate::sample`]), so a sequence that is admitted with the tokens of a lost worker goes on as
//! that worker would have.
//!
//! To add an engine: implement [`Engine`] and [`Text`] beside `decoder`, and choose it in [`load`].

mod chat;
mod decoder;
mod encoder;
mod folder;
pub mod mock;

use std::{sync::Arc, time::Duration};

use rbee_schema::{
    EmbeddingInput, Failure, FailureCode, MemoryEstimate, ModelKind, ModelReference, PromptCacheStats, Sampling,
};

pub use self::chat::Chat;
pub use crate::{
    grammar::Constraint,
    sample::{Logprobs, Token},
};

use crate::{decide::format::AnswerFormat, text::TemplateLimits};

/// How a model is to be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoadOptions {
    /// What it is to do.
    pub kind: ModelKind,
    /// Tokens of prompt and answer together; `None` for as many as model and engine can.
    pub context: Option<u32>,
    /// How many sequences are admitted at a time; at least 1.
    pub slots: u32,
    /// How many threads compute; `None` for as many as may run at a time.
    pub threads: Option<u32>,
    /// Bytes that keys and values may take; `None` for a context for each slot and one more.
    pub cache_bytes: Option<u64>,
    /// Bytes of memory that the whole process may take; `None` where nothing limits it.
    pub memory_bytes: Option<u64>,
    /// Limits of rendering the chat template.
    pub template: TemplateLimits,
}

/// How far loading has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadProgress {
    /// Bytes of the model that have been read; never more than `total_bytes`.
    pub done_bytes: u64,
    /// Bytes of the model.
    pub total_bytes: u64,
    /// The memory that it will take, once its header is read.
    pub memory: Option<MemoryEstimate>,
}

/// A model that is ready to answer.
pub struct Loaded {
    /// Makes tokens.
    pub engine: Box<dyn Engine>,
    /// Turns chats into tokens and tokens into bytes. Shared: prompts are rendered on another thread than the engine's.
    pub text: Arc<dyn Text>,
    /// Tokens of prompt and answer together that a sequence may have.
    pub context: u32,
}

/// Loads a model. Blocks for as long as that takes; `progress` is called at most about a hundred times.
///
/// # Errors
/// - `model-missing`: the file is not there or cannot be read;
/// - `model-invalid`: it is damaged, or not what its name says;
/// - `model-unsupported`: no engine can run its kind, or it is none of [`LoadOptions::kind`];
/// - `invalid-request`: a larger context than the model has was asked for, or an option of the mock is not known;
/// - `out-of-memory`: it needs more than it may take. Nothing of it was taken then.
pub fn load(
    reference: &ModelReference,
    options: &LoadOptions,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Loaded, Failure> {
    match reference {
        ModelReference::File(path) if path.is_dir() => folder::load(path, options, progress),
        ModelReference::File(_) | ModelReference::Mock(_) if options.kind != ModelKind::Text => {
            Err(Failure::new(FailureCode::ModelUnsupported, folder::CONTINUES_TEXT))
        }
        ModelReference::File(path) => decoder::load(path, options, progress),
        ModelReference::Hub(file) => Err(Failure::new(
            FailureCode::InvalidRequest,
            format!("hf:{file} is not on this machine: a hive fetches it and names the file"),
        )),
        ModelReference::Mock(text) => mock::load(text, options, progress),
    }
}

/// The text side of a model: its chat template and its vocabulary.
pub trait Text: Send + Sync {
    /// Renders a chat with the model's template, up to where the answer begins, and tokenises it.
    ///
    /// # Errors
    /// `invalid-request`: the model's template refuses the chat, for example for the order of its roles, or it has no place
    /// for tools and the chat has some.
    fn prompt(&self, chat: &Chat<'_>) -> Result<Vec<u32>, Failure>;

    /// How the model writes thoughts and calls of tools.
    fn format(&self) -> AnswerFormat;

    /// The tokens of a text whose vector is wanted, as the model reads them: with those that stand before and behind every
    /// text, and cut where the model ends.
    ///
    /// # Errors
    /// `invalid-request`: this model computes no embeddings, or tokens are not of its vocabulary.
    fn passage(&self, input: &EmbeddingInput) -> Result<Vec<u32>, Failure> {
        let _ = input;
        Err(no_embeddings())
    }

    /// The bytes of a token: any part of a UTF-8 text, not always whole characters. Empty for ids that
    /// the vocabulary does not have, and for control tokens but those that are marks of [`Text::format`].
    fn piece(&self, token: u32) -> &[u8];

    /// How many tokens the vocabulary has: ids are from 0 to below this.
    fn size(&self) -> u32;

    /// The tokens that end an answer. They are not part of its text.
    fn ends(&self) -> Vec<u32>;
}

/// Names a sequence within one engine; the caller chooses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(pub u64);

/// What is to be continued, and how.
#[derive(Debug)]
pub struct Sequence {
    /// Tokens of the rendered prompt; at least one.
    pub prompt: Vec<u32>,
    /// Tokens of the answer so far: a job that was resumed starts with some.
    pub emitted: Vec<u32>,
    /// How its tokens are chosen.
    pub sampling: Sampling,
    /// What form the answer has; it has taken the tokens of `emitted`. `None` for any.
    pub constraint: Option<Constraint>,
}

impl Sequence {
    /// The answer to a prompt, from its beginning and in any form.
    pub fn new(prompt: Vec<u32>, sampling: Sampling) -> Self {
        Self { prompt, emitted: Vec::new(), sampling, constraint: None }
    }
}

/// Makes tokens for several sequences at a time.
pub trait Engine: Send {
    /// Takes a sequence in; its prompt is read in the steps that follow.
    ///
    /// # Errors
    /// - `context-exceeded`: prompt and emitted tokens leave no room for another token;
    /// - `invalid-request`: the prompt is empty, or the sequence asks the mock for something unknown;
    /// - `queue-full`: every slot is taken;
    /// - `internal`: a sequence of this id is admitted already, or a token is not in the vocabulary.
    fn admit(&mut self, id: SequenceId, sequence: Sequence) -> Result<(), Failure>;

    /// Advances every admitted sequence, in the order of their admission, and returns the tokens that were made.
    ///
    /// A sequence may make several tokens in one step, which stand in their order. Long prompts are read in parts, so that
    /// other sequences keep going and a cancelled one can be released: a sequence that is still being read is not in the
    /// answer. A sequence that failed is in the answer once and is released by that. With nothing admitted the step does
    /// nothing and returns at once.
    fn step(&mut self) -> Vec<(SequenceId, Result<Token, Failure>)>;

    /// Forgets a sequence and frees its slot. Does nothing if the sequence is not admitted.
    fn release(&mut self, id: SequenceId);

    /// What the engine has done so far.
    fn stats(&self) -> EngineStats;

    /// The vectors of texts, given as tokens, in their order. The vector of a text does not depend on the others.
    ///
    /// # Errors
    /// `invalid-request` if this engine computes no embeddings, or if a text has no tokens or too many.
    fn embed(&mut self, texts: &[&[u32]]) -> Result<Vec<Vec<f32>>, Failure> {
        let _ = texts;
        Err(no_embeddings())
    }

    /// How probable each token of a text is after those before it: natural logarithms, for all but the first. To be asked
    /// of an engine without sequences; for measurements.
    ///
    /// # Errors
    /// `invalid-request` if this engine cannot say, or if there are too few or too many tokens.
    fn score(&mut self, tokens: &[u32]) -> Result<Vec<f32>, Failure> {
        let count = tokens.len();
        Err(Failure::new(
            FailureCode::InvalidRequest,
            format!("this engine cannot say how probable {count} tokens are"),
        ))
    }
}

/// Counters of an engine since it was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EngineStats {
    /// Sequences that are admitted now.
    pub sequences: u32,
    /// Tokens that the admitted sequences hold in the engine's cache now.
    pub cached_tokens: u64,
    /// Tokens of prompts (and of resumed answers) that were read.
    pub prompt_tokens: u64,
    /// Tokens that were made.
    pub answer_tokens: u64,
    /// Tokens with which sequences began, and how many of these were in the cache already.
    pub asked_tokens: u64,
    /// See `asked_tokens`.
    pub found_tokens: u64,
    /// Pages that the cache may have; those that sequences use; those that are remembered for others.
    pub cache_pages: u64,
    /// See `cache_pages`.
    pub used_pages: u64,
    /// See `cache_pages`.
    pub known_pages: u64,
    /// Pages that were forgotten to make room for others.
    pub forgotten_pages: u64,
    /// Bytes of a page.
    pub page_bytes: u64,
    /// How often a sequence lost its pages to an older one.
    pub preempted: u64,
    /// Steps that had something to do.
    pub steps: u64,
    /// Time spent in those steps.
    pub busy: Duration,
}

impl EngineStats {
    /// What is remembered, as a heartbeat says it; `None` where the engine has no cache.
    pub(crate) fn cache(&self) -> Option<PromptCacheStats> {
        let bytes = |pages| pages * self.page_bytes;
        (self.cache_pages > 0).then(|| PromptCacheStats {
            lookup_tokens: self.asked_tokens,
            hit_tokens: self.found_tokens,
            limit_bytes: bytes(self.cache_pages),
            used_bytes: bytes(self.used_pages),
            idle_bytes: bytes(self.known_pages),
            evicted_bytes: bytes(self.forgotten_pages),
        })
    }
}

fn no_embeddings() -> Failure {
    Failure::new(
        FailureCode::InvalidRequest,
        "the model continues chats and computes no embeddings: send `messages`, or name another model",
    )
}

/// How many threads compute: as many as may run at a time, where nobody says otherwise.
fn threads(options: &LoadOptions) -> usize {
    let possible = || std::thread::available_parallelism().map_or(1, usize::from);
    options.threads.map_or_else(possible, |threads| threads as usize)
}

/// The context that is used, where `possible` tokens are the most that model and engine can hold.
fn context_size(asked: Option<u32>, possible: u32) -> Result<u32, Failure> {
    match asked {
        Some(asked) if asked > possible => Err(Failure::new(
            FailureCode::InvalidRequest,
            format!("a context of {asked} tokens was asked for: this model and engine can hold {possible} at most"),
        )),
        Some(asked) => Ok(asked),
        None => Ok(possible),
    }
}

/// Refuses what no engine could continue, given the sequences that are admitted.
fn check_admission(
    id: SequenceId,
    sequence: &Sequence,
    mut admitted: impl ExactSizeIterator<Item = SequenceId>,
    slots: u32,
    context: u32,
) -> Result<(), Failure> {
    let refuse = |code, message: String| Err(Failure::new(code, message));
    let (taken, tokens) = (admitted.len(), sequence.prompt.len() + sequence.emitted.len());
    if admitted.any(|other| other == id) {
        return refuse(FailureCode::Internal, format!("sequence {} is admitted already", id.0));
    }
    if taken >= slots as usize {
        return refuse(FailureCode::QueueFull, format!("all {slots} slots of the engine are taken"));
    }
    if sequence.prompt.is_empty() {
        return refuse(FailureCode::InvalidRequest, "the prompt has no tokens: there is nothing to continue".into());
    }
    if tokens >= context as usize {
        return refuse(
            FailureCode::ContextExceeded,
            format!("the chat has {tokens} tokens and the model holds {context}, answer included: send a shorter chat"),
        );
    }
    Ok(())
}

/// The failure of a sequence that has filled its context.
fn context_filled(context: u32) -> Failure {
    Failure::new(
        FailureCode::ContextExceeded,
        format!("prompt and answer have filled the context of {context} tokens: ask for a shorter answer"),
    )
}
