//! Speculative decoding without a draft model: drafts the next tokens of an answer from what followed the same tokens before
//! (prompt lookup decoding: Saxena, 2023). Step 5 of a job's path.
//!
//! Drafted tokens are computed in the same step as the next token. Those that equal what is chosen are accepted and save
//! steps of their own; the others cost a little time and change nothing. So a sequence drafts only while enough tokens are
//! accepted.

/// Number of tokens that must have occurred before, in this order, for what followed them to be drafted.
const CONTEXT: usize = 3;

/// Largest number of drafted tokens.
const MAX_DRAFT: usize = 4;

/// Weight of the newest draft in the acceptance rate (exponential moving average).
const NEWEST_WEIGHT: f32 = 0.2;

/// Acceptance rate of a new sequence: high enough for about three failed drafts before the first pause.
const INITIAL_RATE: f32 = 0.7;

/// Acceptance rate below which drafting pauses.
const MIN_RATE: f32 = 0.4;

/// Length of a pause in tokens of the answer. After it, the sequence drafts once more.
const PAUSE: usize = 64;

/// Drafts tokens of one sequence and tracks how many of them are accepted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drafter {
    /// Share of drafted tokens that were accepted, newer drafts weighted more. 0 to 1.
    acceptance_rate: f32,
    /// Tokens of the answer until the sequence may draft again.
    pause: usize,
}

impl Default for Drafter {
    fn default() -> Self {
        Self { acceptance_rate: INITIAL_RATE, pause: 0 }
    }
}

impl Drafter {
    /// Records a step that made `made` tokens of the answer: the number of tokens that were drafted, and of those that were
    /// accepted.
    pub fn record(&mut self, drafted: usize, accepted: usize, made: usize) {
        self.pause = self.pause.saturating_sub(made);
        if drafted == 0 {
            return;
        }
        self.acceptance_rate += NEWEST_WEIGHT * (accepted as f32 / drafted as f32 - self.acceptance_rate);
        if self.acceptance_rate < MIN_RATE {
            // One accepted draft after the pause is enough to continue.
            *self = Self { acceptance_rate: MIN_RATE, pause: PAUSE };
        }
    }

    /// Drafts the tokens after `tokens`: what followed the newest earlier occurrence of the last [`CONTEXT`] tokens, at most
    /// `limit` tokens.
    pub fn draft<'a>(&self, tokens: &'a [u32], limit: usize) -> &'a [u32] {
        if self.pause > 0 || tokens.len() <= CONTEXT {
            return &[];
        }
        let last = &tokens[tokens.len() - CONTEXT..];
        let before = tokens[..tokens.len() - 1].windows(CONTEXT).rposition(|window| window == last);
        let Some(start) = before.map(|at| at + CONTEXT) else { return &[] };
        &tokens[start..tokens.len().min(start + MAX_DRAFT.min(limit))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_after_the_newest_occurrence_are_drafted() {
        let drafter = Drafter::default();
        assert_eq!(drafter.draft(&[1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3], 10), [4, 5, 6, 7]);
        assert_eq!(drafter.draft(&[1, 2, 3, 4, 1, 2, 3, 9, 8, 1, 2, 3], 2), [9, 8], "the newest, up to the limit");
        assert_eq!(drafter.draft(&[7, 7, 7, 7], 10), [7]);
        for nothing in [&[][..], &[1, 2, 3], &[1, 2, 3, 4, 5]] {
            assert!(drafter.draft(nothing, 10).is_empty());
        }
        assert!(drafter.draft(&[7, 7, 7, 7], 0).is_empty());
    }

    #[test]
    fn drafting_pauses_at_a_low_acceptance_rate_and_resumes() {
        let tokens = [7; 10];
        let mut drafter = Drafter::default();
        for _ in 0..100 {
            drafter.record(4, 4, 5);
            assert!(!drafter.draft(&tokens, 1).is_empty());
        }
        let mut rejected = 0;
        while !drafter.draft(&tokens, 1).is_empty() {
            drafter.record(4, 0, 1);
            rejected += 1;
        }
        assert!((3..8).contains(&rejected), "{rejected} rejected drafts");
        for _ in 0..PAUSE {
            assert!(drafter.draft(&tokens, 1).is_empty());
            drafter.record(0, 0, 1);
        }
        assert!(!drafter.draft(&tokens, 1).is_empty(), "it drafts again after the pause");
    }
}
