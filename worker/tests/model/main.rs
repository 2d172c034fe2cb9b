//! Models from file to token: the real test model compared with llama.cpp, and tiny models with every kind of damage.

mod damaged;
mod embeddings;
mod folder;
mod prompts;
mod reference;
mod sequences;
mod tiny;
mod vocabulary;
mod weights;

use std::{env, path::PathBuf};

use rbee_schema::{Failure, Message, ModelReference, Role, Sampling};
use rbee_worker::{
    contract::{LoadOptions, Loaded},
    load::load,
};

/// Sampling that always chooses the most probable token.
const GREEDY: Sampling = Sampling::GREEDY;

/// Path of the test model.
fn test_model() -> PathBuf {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools/models/SmolLM2-135M-Instruct.Q4_1.gguf");
    let path = env::var_os("RBEE_TEST_MODEL").map_or_else(|| default.into(), PathBuf::from);
    assert!(path.is_file(), "the test model {} is missing: run `make setup`", path.display());
    path
}

fn load_path(path: PathBuf, context: Option<u32>, slots: u32) -> Result<Loaded, Failure> {
    load(&ModelReference::File(path), &LoadOptions { context, slots, ..LoadOptions::default() }, &mut |_| {})
}

fn user(content: &str) -> Vec<Message> {
    vec![Message::new(Role::User, content)]
}
