//! Loading of weights, for every engine: progress, and failures instead of panics.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rbee_schema::{Failure, FailureCode};
use rbee_transformer::LoadError;

use crate::contract::LoadProgress;

/// Packs the weights of a model by `pack`, which reports the size of each tensor in bytes. Passes progress on at most once
/// per percent of `total_bytes`, of which `read_bytes` are read already.
///
/// # Errors
/// `model-invalid` if a tensor is missing or cannot be used, or if packing panics because the weights contradict the header.
pub(super) fn load_weights<W>(
    read_bytes: u64,
    total_bytes: u64,
    progress: &mut dyn FnMut(LoadProgress),
    pack: impl FnOnce(&mut dyn FnMut(usize)) -> Result<W, LoadError>,
) -> Result<W, Failure> {
    let (mut done_bytes, mut reported) = (read_bytes, 0);
    let mut report = |bytes: usize| {
        done_bytes = (done_bytes + bytes as u64).min(total_bytes);
        let percent = done_bytes * 100 / total_bytes.max(1);
        if percent > reported {
            reported = percent;
            progress(LoadProgress { done_bytes, total_bytes, memory: None });
        }
    };
    let packed = catch_unwind(AssertUnwindSafe(|| pack(&mut report)));
    let invalid = |message: String| Failure::new(FailureCode::ModelInvalid, message);
    packed.map_err(|_| invalid("the weights contradict the header".into()))?.map_err(|error| match error {
        LoadError::Missing { .. } | LoadError::Shape { .. } | LoadError::Pack { .. } => invalid(error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_reported_at_most_once_per_percent() {
        let mut reported = Vec::new();
        let mut progress = |at: LoadProgress| reported.push(at.done_bytes);
        let loaded = load_weights(100, 1000, &mut progress, |report| {
            [5, 3, 2, 890, 50].into_iter().for_each(report);
            Ok(7)
        });
        assert_eq!(loaded, Ok(7));
        assert_eq!(reported, [105, 110, 1000], "108 is still 10 percent, and no more than all bytes are reported");
    }

    #[test]
    fn a_panic_while_packing_is_an_invalid_model() {
        let failed = load_weights(0, 1, &mut |_| {}, |_| -> Result<(), LoadError> { panic!("out of range") });
        assert_eq!(failed.map_err(|failure| failure.code), Err(FailureCode::ModelInvalid));
    }
}
