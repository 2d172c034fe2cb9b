//! Loading: chooses the engine for a model and lets it load the model. Knows every engine, and nothing below it does.
//! Step 4 of a job's path.

use std::path::Path;

use rbee_schema::{Failure, FailureCode, ModelKind, ModelReference};

use crate::{
    architecture::{ENCODER_TYPES, model_type},
    contract::{LoadOptions, LoadProgress, Loaded},
    engine::{decoder, encoder, mock},
};

/// Loads a model. Blocks until the model is loaded; `progress` is called about a hundred times at most.
///
/// # Errors
/// - `model-missing`: the file does not exist or cannot be read;
/// - `model-invalid`: the file is damaged, or is not what its name says;
/// - `model-unsupported`: no engine can run the model, or not for the purpose [`LoadOptions::kind`];
/// - `invalid-request`: a larger context than the model has was requested, or a setting of the mock engine is unknown;
/// - `out-of-memory`: the model needs more than the memory limit. Nothing was allocated in this case.
pub fn load(
    reference: &ModelReference,
    options: &LoadOptions,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Loaded, Failure> {
    match reference {
        ModelReference::File(path) if path.is_dir() => load_folder(path, options, progress)
            .map_err(|failure| Failure { message: format!("{}: {}", path.display(), failure.message), ..failure }),
        ModelReference::File(_) | ModelReference::Mock(_) if options.kind != ModelKind::Text => Err(Failure::new(
            FailureCode::ModelUnsupported,
            "the model continues text and was declared for embeddings: declare it without --kind, or name an encoder",
        )),
        ModelReference::File(path) => decoder::load(path, options, progress),
        ModelReference::Hub(file) => Err(Failure::new(
            FailureCode::InvalidRequest,
            format!(
                "hf:{file} is not on this machine: a hive downloads it and passes the path of the file to the worker"
            ),
        )),
        ModelReference::Mock(text) => mock::load(text, options, progress),
    }
}

/// Loads a model in a folder with safetensors, by the architecture that its `config.json` names.
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
