//! The inputs and the result of loading a model.

use std::{sync::Arc, thread::available_parallelism};

use rbee_schema::{Failure, FailureCode, MemoryEstimate, ModelKind, WorkerSettings};

use super::{engine::Engine, text::Text};

/// Options for loading a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoadOptions {
    /// Purpose of the model: text or embeddings.
    pub kind: ModelKind,
    /// Context size in tokens, prompt and answer together. `None`: the engine's default for the model.
    pub context: Option<u32>,
    /// Number of sequences that may be admitted at the same time; at least 1.
    pub slots: u32,
    /// Number of compute threads. `None`: one for each CPU that the process may use.
    pub threads: Option<u32>,
    /// Bytes for the KV cache. `None`: a full context for each slot, and one more.
    pub cache_bytes: Option<u64>,
    /// Memory limit of the whole process in bytes. `None`: no limit.
    pub memory_bytes: Option<u64>,
    /// Limits for rendering the model's chat template.
    pub template: TemplateLimits,
}

impl LoadOptions {
    /// Number of compute threads: the requested one, or one for each CPU that the process may use.
    pub(crate) fn thread_count(&self) -> usize {
        let possible = || available_parallelism().map_or(1, usize::from);
        self.threads.map_or_else(possible, |threads| threads as usize)
    }

    /// The context size to use, where model and engine can hold `possible` tokens at most.
    ///
    /// # Errors
    /// `invalid-request` if a larger context was requested.
    pub(crate) fn context_within(&self, possible: u32) -> Result<u32, Failure> {
        match self.context {
            Some(requested) if requested > possible => Err(Failure::new(
                FailureCode::InvalidRequest,
                format!(
                    "a context of {requested} tokens was requested, but this model and engine can hold {possible} at most"
                ),
            )),
            Some(requested) => Ok(requested),
            None => Ok(possible),
        }
    }
}

/// Limits for rendering a chat template. A template comes from the model's file and is not trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TemplateLimits {
    /// Maximum number of executed instructions.
    pub steps: u64,
    /// Maximum nesting depth of calls and loops.
    pub depth: usize,
    /// Maximum size of the rendered text in bytes.
    pub bytes: usize,
}

impl From<&WorkerSettings> for TemplateLimits {
    fn from(settings: &WorkerSettings) -> Self {
        Self {
            steps: u64::from(settings.template_steps),
            depth: settings.template_depth as usize,
            bytes: usize::try_from(settings.template_size.bytes()).unwrap_or(usize::MAX),
        }
    }
}

impl Default for TemplateLimits {
    fn default() -> Self {
        Self::from(&WorkerSettings::default())
    }
}

/// Progress of loading a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadProgress {
    /// Bytes of the model that have been read; never more than `total_bytes`.
    pub done_bytes: u64,
    /// Size of the model in bytes.
    pub total_bytes: u64,
    /// Estimated memory use of the loaded model. Known as soon as its header has been read.
    pub memory: Option<MemoryEstimate>,
}

/// A model that is ready to answer.
pub struct Loaded {
    /// Makes tokens or vectors.
    pub engine: Box<dyn Engine>,
    /// Turns chats into tokens and tokens into bytes. Shared, because prompts are rendered on another thread than the
    /// engine's.
    pub text: Arc<dyn Text>,
    /// Context size of a sequence in tokens, prompt and answer together.
    pub context: u32,
}
