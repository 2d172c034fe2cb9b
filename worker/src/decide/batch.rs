//! Divides the rows of the next step between the sequences of an engine. Step 5 of a job's path.

/// Rows of a step while no sequence is answering: enough to keep the processor busy, and few enough that a cancelled job is
/// noticed soon.
const ROWS_ALONE: usize = 256;

/// Rows of prompts in a step with answering sequences. They take about as long as two or three tokens of the others.
const ROWS_BESIDE: usize = 48;

/// Largest number of rows of a step, with `slots` sequences and at most `drafting` rows of answers with drafted tokens.
pub fn max_rows(slots: usize, drafting: usize) -> usize {
    ROWS_ALONE.max(ROWS_BESIDE + slots.max(drafting))
}

/// Tokens that a sequence could compute in the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// The rest of its prompt, in tokens.
    Prefill(usize),
    /// Its next token, and this many drafted ones.
    Decode(usize),
}

/// Number of tokens that each sequence computes in the next step, in the order of admission.
///
/// Each answering sequence gets its rows in every step. Prompts get the remaining rows in the order of admission, so that
/// the first of them is answered as early as possible.
pub fn divide_rows(demands: &[Demand]) -> Vec<usize> {
    let is_answering = demands.iter().any(|demand| matches!(demand, Demand::Decode(_)));
    let mut left = if is_answering { ROWS_BESIDE } else { ROWS_ALONE };
    let share = |demand: &Demand| match *demand {
        Demand::Decode(drafted) => 1 + drafted,
        Demand::Prefill(tokens) => {
            let rows = tokens.min(left);
            left -= rows;
            rows
        }
    };
    demands.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_get_all_their_rows_and_prompts_share_the_rest_in_order() {
        use Demand::{Decode, Prefill};
        for (demands, expected) in [
            (&[][..], vec![]),
            (&[Prefill(10)], vec![10]),
            (&[Prefill(1000), Prefill(1000)], vec![ROWS_ALONE, 0]),
            (&[Prefill(200), Prefill(1000), Prefill(5)], vec![200, ROWS_ALONE - 200, 0]),
            (&[Decode(0), Prefill(1000), Decode(3)], vec![1, ROWS_BESIDE, 4]),
            (&[Prefill(10), Decode(0), Prefill(1000)], vec![10, 1, ROWS_BESIDE - 10]),
        ] {
            assert_eq!(divide_rows(demands), expected, "{demands:?}");
        }
    }
}
