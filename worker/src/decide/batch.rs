//! How many tokens of each sequence are computed in the next step. Step 5 of a job's path.

/// Rows of a step when nobody waits for a next token: enough to keep the processor busy, few enough that a cancelled job
/// is noticed soon.
const ROWS_ALONE: usize = 256;

/// Rows of prompts beside answers under way: so many take about as long as two or three tokens of the others.
const ROWS_BESIDE: usize = 48;

/// The most rows of a step, with so many slots, where so many rows of answers are guessed at most.
pub fn most_rows(slots: usize, guessed: usize) -> usize {
    ROWS_ALONE.max(ROWS_BESIDE + slots.max(guessed))
}

/// What a sequence could do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Its prompt, or what is left of it, in tokens.
    Read(usize),
    /// Its next token, and so many more that were guessed.
    Answer(usize),
}

/// How many tokens each sequence computes, in the order of their admission.
///
/// Every answer goes on in every step. Prompts are read in the order of their admission with the rows that are left, so
/// that the first of them answers as early as it can.
pub fn rows(wants: &[Want]) -> Vec<usize> {
    let is_answering = wants.iter().any(|want| matches!(want, Want::Answer(_)));
    let mut left = if is_answering { ROWS_BESIDE } else { ROWS_ALONE };
    let share = |want: &Want| match *want {
        Want::Answer(guessed) => 1 + guessed,
        Want::Read(tokens) => {
            let part = tokens.min(left);
            left -= part;
            part
        }
    };
    wants.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_always_go_on_and_prompts_share_what_is_left_in_order() {
        use Want::{Answer, Read};
        for (wants, expected) in [
            (&[][..], vec![]),
            (&[Read(10)], vec![10]),
            (&[Read(1000), Read(1000)], vec![ROWS_ALONE, 0]),
            (&[Read(200), Read(1000), Read(5)], vec![200, ROWS_ALONE - 200, 0]),
            (&[Answer(0), Read(1000), Answer(3)], vec![1, ROWS_BESIDE, 4]),
            (&[Read(10), Answer(0), Read(1000)], vec![10, 1, ROWS_BESIDE - 10]),
        ] {
            assert_eq!(rows(wants), expected, "{wants:?}");
        }
    }
}
