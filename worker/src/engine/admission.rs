//! Checks that every engine makes when a sequence is admitted or has grown.

use rbee_schema::{Failure, FailureCode};

use crate::contract::{Sequence, SequenceId};

/// Refuses a sequence that no engine could continue, given the ids of the `admitted` ones.
pub(super) fn check_admission(
    id: SequenceId,
    sequence: &Sequence,
    mut admitted: impl ExactSizeIterator<Item = SequenceId>,
    slots: u32,
    context: u32,
) -> Result<(), Failure> {
    let refuse = |code, message: String| Err(Failure::new(code, message));
    let (taken, tokens) = (admitted.len(), sequence.prompt.len() + sequence.emitted.len());
    if admitted.any(|other| other == id) {
        return refuse(FailureCode::Internal, format!("sequence {} is already admitted", id.0));
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
            format!(
                "the chat has {tokens} tokens and the context of the model holds {context}, answer included: send a \
                 shorter chat"
            ),
        );
    }
    Ok(())
}

/// The failure of a sequence that has filled its context.
pub(super) fn context_filled(context: u32) -> Failure {
    Failure::new(
        FailureCode::ContextExceeded,
        format!("prompt and answer have filled the context of {context} tokens: ask for a shorter answer"),
    )
}
