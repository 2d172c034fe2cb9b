//! An engine without a model: the test instrument for everything around inference.
//!
//! Its tokens are a function of (seed, index). Speed and faults are configurable. The settings are part of the model reference
//! (`mock:interval=5ms,tokens=32`) and apply to every job. A job whose last user message begins with `mock:`
//! (`mock: tokens=20 crash=7`) overrides them for itself. See [`settings`] for all of them.

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

/// Size that the mock model reports while it loads. Similar to that of a small real model.
const TOTAL_BYTES: u64 = 100 << 20;
/// Number of progress reports of a load. Enough that a stall halfway is visible as one.
const LOAD_STEPS: u32 = 20;

/// Loads the mock model: takes the configured time and reports progress.
pub(crate) fn load(
    text: &str,
    options: &LoadOptions,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Loaded, Failure> {
    let settings = ModelSettings::parse(text)?;
    let context = options.context_within(settings.context)?;
    for step in 0..LOAD_STEPS {
        progress(LoadProgress {
            done_bytes: TOTAL_BYTES * u64::from(step) / u64::from(LOAD_STEPS),
            total_bytes: TOTAL_BYTES,
            memory: None,
        });
        if step == LOAD_STEPS / 2 {
            inject(settings.load_fault)?;
        }
        thread::sleep(settings.load / LOAD_STEPS);
    }
    progress(LoadProgress { done_bytes: TOTAL_BYTES, total_bytes: TOTAL_BYTES, memory: None });
    let engine = Box::new(MockEngine::new(settings.job, options.slots, context));
    Ok(Loaded { engine, text: Arc::new(Vocabulary { has_reasoning: settings.has_reasoning }), context })
}

/// Injects a fault of loading.
fn inject(fault: LoadFault) -> Result<(), Failure> {
    match fault {
        LoadFault::None => Ok(()),
        LoadFault::Fail(code) => Err(Failure::new(code, "the mock engine failed to load, as configured by load-fail")),
        LoadFault::Crash => std::process::abort(),
        LoadFault::Stall => loop {
            thread::sleep(fault::FOREVER);
        },
    }
}

#[cfg(test)]
mod tests {
    use rbee_schema::{FailureCode, ModelReference};

    use super::*;
    use crate::load;

    fn load_mock(text: &str, context: Option<u32>) -> (Result<Loaded, Failure>, Vec<LoadProgress>) {
        let mut reports = Vec::new();
        let options = LoadOptions { context, slots: 2, ..LoadOptions::default() };
        let loaded = load::load(&ModelReference::Mock(text.into()), &options, &mut |progress| reports.push(progress));
        (loaded, reports)
    }

    #[test]
    fn progress_rises_to_the_size_of_the_model() {
        let (loaded, reports) = load_mock("", None);
        assert!(loaded.is_ok());
        assert!(reports.windows(2).all(|pair| pair[0].done_bytes < pair[1].done_bytes));
        assert_eq!(reports.last().map(|last| last.done_bytes), Some(TOTAL_BYTES));
    }

    #[test]
    fn loading_fails_with_the_configured_code() {
        let (loaded, reports) = load_mock("load-fail=model-missing", None);
        assert_eq!(loaded.err().map(|failure| failure.code), Some(FailureCode::ModelMissing));
        assert!(reports.last().is_some_and(|last| last.done_bytes < TOTAL_BYTES));
    }

    #[test]
    fn requested_context_is_used_up_to_the_limit() {
        assert_eq!(load_mock("context=4096", None).0.map(|loaded| loaded.context).ok(), Some(4096));
        assert_eq!(load_mock("context=4096", Some(100)).0.map(|loaded| loaded.context).ok(), Some(100));
        let failure = load_mock("context=4096", Some(4097)).0.err().expect("too large");
        assert_eq!(failure.code, FailureCode::InvalidRequest);
        assert!(failure.message.contains("4097") && failure.message.contains("4096"), "{failure}");
    }
}
