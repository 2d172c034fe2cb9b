//! An engine without a model: the instrument with which everything around inference is tested and measured.
//!
//! Its tokens are a function of (seed, index), it takes as long as it is told, and it fails as it is told. Settings
//! stand in the model's reference (`mock:interval=5ms,tokens=32`) and hold for every job; a job whose last user message
//! begins with `mock:` (`mock: tokens=20 crash=7`) changes them for itself. See [`settings`] for all of them.

mod fault;
mod run;
pub mod settings;
mod vocabulary;

use std::{sync::Arc, thread, time::Duration};

use rbee_schema::Failure;

use self::{
    run::MockEngine,
    settings::{LoadFault, ModelSettings},
    vocabulary::Vocabulary,
};
use crate::contract::{LoadOptions, LoadProgress, Loaded};

/// What the mock says it reads: a size that people would see for a real model.
const TOTAL_BYTES: u64 = 100 << 20;
/// As long as a hang lasts: until somebody ends the process.
const FOR_EVER: Duration = Duration::from_secs(60 * 60);
/// Progress is told this often, so that a stall shows within a part of the load.
const LOAD_PARTS: u32 = 20;

/// Takes the time that the settings ask for and reports progress meanwhile.
pub(crate) fn load(
    text: &str,
    options: &LoadOptions,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Loaded, Failure> {
    let settings = ModelSettings::parse(text)?;
    let context = options.context_within(settings.context)?;
    for part in 0..LOAD_PARTS {
        progress(LoadProgress {
            done_bytes: TOTAL_BYTES * u64::from(part) / u64::from(LOAD_PARTS),
            total_bytes: TOTAL_BYTES,
            memory: None,
        });
        if part == LOAD_PARTS / 2 {
            strike(settings.load_fault)?;
        }
        thread::sleep(settings.load / LOAD_PARTS);
    }
    progress(LoadProgress { done_bytes: TOTAL_BYTES, total_bytes: TOTAL_BYTES, memory: None });
    let engine = Box::new(MockEngine::new(settings.job, options.slots, context));
    Ok(Loaded { engine, text: Arc::new(Vocabulary { thinks: settings.thinks }), context })
}

/// Carries out a fault of loading, halfway through.
fn strike(fault: LoadFault) -> Result<(), Failure> {
    match fault {
        LoadFault::None => Ok(()),
        LoadFault::Fail(code) => Err(Failure::new(code, "the mock was told to fail while loading")),
        LoadFault::Crash => std::process::abort(),
        LoadFault::Stall => loop {
            thread::sleep(FOR_EVER);
        },
    }
}

#[cfg(test)]
mod tests {
    use rbee_schema::{FailureCode, ModelReference};

    use super::*;
    use crate::load;

    fn load_mock(text: &str, context: Option<u32>) -> (Result<Loaded, Failure>, Vec<LoadProgress>) {
        let mut told = Vec::new();
        let options = LoadOptions { context, slots: 2, ..LoadOptions::default() };
        let loaded = load::load(&ModelReference::Mock(text.into()), &options, &mut |step| told.push(step));
        (loaded, told)
    }

    #[test]
    fn progress_rises_to_the_whole() {
        let (loaded, told) = load_mock("", None);
        assert!(loaded.is_ok());
        assert!(told.windows(2).all(|pair| pair[0].done_bytes < pair[1].done_bytes));
        assert_eq!(told.last().map(|last| last.done_bytes), Some(TOTAL_BYTES));
    }

    #[test]
    fn loading_fails_with_the_code_it_is_told() {
        let (loaded, told) = load_mock("load-fail=model-missing", None);
        assert_eq!(loaded.err().map(|failure| failure.code), Some(FailureCode::ModelMissing));
        assert!(told.last().is_some_and(|last| last.done_bytes < TOTAL_BYTES));
    }

    #[test]
    fn the_context_is_what_was_asked_for_as_far_as_it_goes() {
        assert_eq!(load_mock("context=4096", None).0.map(|loaded| loaded.context).ok(), Some(4096));
        assert_eq!(load_mock("context=4096", Some(100)).0.map(|loaded| loaded.context).ok(), Some(100));
        let failure = load_mock("context=4096", Some(4097)).0.err().expect("too large");
        assert_eq!(failure.code, FailureCode::InvalidRequest);
        assert!(failure.message.contains("4097") && failure.message.contains("4096"), "{failure}");
    }
}
