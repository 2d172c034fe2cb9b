//! The number of tokens of each sequence that the next step of an engine computes. Step 5 of a job's path.

/// Rows (tokens) of a step in which no sequence decodes. Enough to keep the processor busy, and few enough that a cancelled
/// job is noticed soon.
const ROWS_OF_PREFILL: usize = 256;

/// Rows of prompts in a step in which other sequences decode. Computing them takes about as long as two or three tokens of
/// the decoding sequences.
const ROWS_BESIDE_DECODE: usize = 48;

/// The maximum number of rows of a step, where all decoding sequences together draft at most `drafted` rows.
pub fn max_rows(slots: usize, drafted: usize) -> usize {
    ROWS_OF_PREFILL.max(ROWS_BESIDE_DECODE + slots.max(drafted))
}

/// The work that a sequence has for the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Number of prompt tokens that are not computed yet.
    Prefill(usize),
    /// The next token of the answer, and this number of drafted tokens behind it.
    Decode(usize),
}

/// The number of rows that each sequence computes, in the order of their admission.
///
/// Every decoding sequence advances in every step. Prompts share the remaining rows in the order of their admission, so
/// that the first of them answers as early as possible.
pub fn plan_rows(work: &[Work]) -> Vec<usize> {
    let is_decoding = work.iter().any(|work| matches!(work, Work::Decode(_)));
    let mut left = if is_decoding { ROWS_BESIDE_DECODE } else { ROWS_OF_PREFILL };
    let share = |work: &Work| match *work {
        Work::Decode(drafted) => 1 + drafted,
        Work::Prefill(tokens) => {
            let part = tokens.min(left);
            left -= part;
            part
        }
    };
    work.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_advances_and_prompts_share_the_rest_in_order() {
        use Work::{Decode, Prefill};
        for (work, expected) in [
            (&[][..], vec![]),
            (&[Prefill(10)], vec![10]),
            (&[Prefill(1000), Prefill(1000)], vec![ROWS_OF_PREFILL, 0]),
            (&[Prefill(200), Prefill(1000), Prefill(5)], vec![200, ROWS_OF_PREFILL - 200, 0]),
            (&[Decode(0), Prefill(1000), Decode(3)], vec![1, ROWS_BESIDE_DECODE, 4]),
            (&[Prefill(10), Decode(0), Prefill(1000)], vec![10, 1, ROWS_BESIDE_DECODE - 10]),
        ] {
            assert_eq!(plan_rows(work), expected, "{work:?}");
        }
    }
}
