//! A model in a folder: which engine runs it.

use std::path::Path;

use rbee_schema::{Failure, FailureCode, ModelKind};

use super::{LoadOptions, LoadProgress, Loaded, decoder, encoder};
use crate::architecture::{ENCODER_TYPES, model_type};

/// Why a model of text is none of embeddings.
pub(super) const CONTINUES_TEXT: &str =
    "the model continues text and was declared for embeddings: declare it without --kind, or name an encoder";

/// Loads a folder. Failures name it.
pub(super) fn load(
    path: &Path,
    options: &LoadOptions,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Loaded, Failure> {
    load_folder(path, options, progress)
        .map_err(|failure| Failure { message: format!("{}: {}", path.display(), failure.message), ..failure })
}

fn load_folder(path: &Path, options: &LoadOptions, progress: &mut dyn FnMut(LoadProgress)) -> Result<Loaded, Failure> {
    let is_encoder = ENCODER_TYPES.contains(&model_type(path)?.as_str());
    match options.kind {
        ModelKind::Embeddings => encoder::load(path, options, progress),
        ModelKind::Text if is_encoder => Err(Failure::new(
            FailureCode::ModelUnsupported,
            "the model computes embeddings and was declared to continue text: declare it with --kind embeddings",
        )),
        ModelKind::Text => decoder::load_folder(path, options, progress),
    }
}
