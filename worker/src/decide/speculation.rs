//! Speculative decoding by prompt lookup: drafts the next tokens of an answer from earlier tokens of the same sequence
//! (Saxena: Prompt Lookup Decoding, 2023).
//!
//! Drafted tokens are computed in the same step as the next token. Drafted tokens that match the chosen ones save a step;
//! the others cost a little time and change nothing. A sequence drafts only while its acceptance rate makes that worthwhile.

/// Number of last tokens that must have occurred before, in this order, for their continuation to be drafted.
const NGRAM: usize = 3;

/// Maximum number of drafted tokens.
const MAX_DRAFT: usize = 4;

/// Weight of the newest step in the moving average of the acceptance rate.
const NEWEST_WEIGHT: f32 = 0.2;

/// Acceptance rate below which drafting pauses.
const MIN_ACCEPTANCE: f32 = 0.4;

/// Number of answer tokens for which drafting pauses.
const PAUSE_TOKENS: usize = 64;

/// Speculative decoding of one sequence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speculation {
    /// Moving average of the share of drafted tokens that were accepted.
    acceptance: f32,
    /// Answer tokens until drafting may begin again; 0 while it does not pause.
    paused_for: usize,
}

impl Default for Speculation {
    fn default() -> Self {
        Self { acceptance: 0.7, paused_for: 0 }
    }
}

impl Speculation {
    /// Records the result of a step: the number of drafted tokens, of those that were accepted, and of all new tokens.
    pub fn record(&mut self, drafted: usize, accepted: usize, made: usize) {
        self.paused_for = self.paused_for.saturating_sub(made);
        if drafted == 0 {
            return;
        }
        self.acceptance += NEWEST_WEIGHT * (accepted as f32 / drafted as f32 - self.acceptance);
        if self.acceptance < MIN_ACCEPTANCE {
            // After the pause, one accepted draft is enough to continue.
            *self = Self { acceptance: MIN_ACCEPTANCE, paused_for: PAUSE_TOKENS };
        }
    }

    /// Drafts the tokens that may follow `tokens`: at most `room`, and none while drafting pauses.
    pub fn draft<'a>(&self, tokens: &'a [u32], room: usize) -> &'a [u32] {
        if self.paused_for > 0 || tokens.len() <= NGRAM {
            return &[];
        }
        let last = &tokens[tokens.len() - NGRAM..];
        let before = tokens[..tokens.len() - 1].windows(NGRAM).rposition(|window| window == last);
        let Some(start) = before.map(|at| at + NGRAM) else { return &[] };
        &tokens[start..tokens.len().min(start + MAX_DRAFT.min(room))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draft_is_the_continuation_of_the_newest_match() {
        let speculation = Speculation::default();
        assert_eq!(speculation.draft(&[1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3], 10), [4, 5, 6, 7]);
        let tokens = [1, 2, 3, 4, 1, 2, 3, 9, 8, 1, 2, 3];
        assert_eq!(speculation.draft(&tokens, 2), [9, 8], "the newest match, within the room");
        assert_eq!(speculation.draft(&[7, 7, 7, 7], 10), [7]);
        for without_match in [&[][..], &[1, 2, 3], &[1, 2, 3, 4, 5]] {
            assert!(speculation.draft(without_match, 10).is_empty());
        }
        assert!(speculation.draft(&[7, 7, 7, 7], 0).is_empty());
    }

    #[test]
    fn drafting_pauses_while_the_acceptance_rate_is_low() {
        let tokens = [7; 10];
        let mut speculation = Speculation::default();
        for _ in 0..100 {
            speculation.record(4, 4, 5);
            assert!(!speculation.draft(&tokens, 1).is_empty());
        }
        let mut rejected = 0;
        while !speculation.draft(&tokens, 1).is_empty() {
            speculation.record(4, 0, 1);
            rejected += 1;
        }
        assert!((3..8).contains(&rejected), "{rejected} rejected drafts");
        for _ in 0..PAUSE_TOKENS {
            assert!(speculation.draft(&tokens, 1).is_empty());
            speculation.record(0, 0, 1);
        }
        assert!(!speculation.draft(&tokens, 1).is_empty(), "drafting begins again after the pause");
    }
}
