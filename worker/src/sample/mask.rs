//! A set of allowed tokens.

/// A set of allowed tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    /// One bit for each token; the lowest bit of the first word is token 0. Tokens beyond the last word are not in the set.
    words: Vec<u32>,
}

const BITS: usize = u32::BITS as usize;

impl Mask {
    /// A set from one bit for each token, the lowest bit of the first word for token 0.
    pub fn new(words: Vec<u32>) -> Self {
        Self { words }
    }

    /// True if a token is in the set.
    pub fn contains(&self, token: u32) -> bool {
        let word = self.words.get(token as usize / BITS);
        word.is_some_and(|word| word >> (token as usize % BITS) & 1 == 1)
    }

    /// Forbids every token that is not in the set.
    pub(super) fn apply(&self, logits: &mut [f32]) {
        let (within, beyond) = logits.split_at_mut(logits.len().min(self.words.len() * BITS));
        beyond.fill(f32::NEG_INFINITY);
        for (logits, word) in within.chunks_mut(BITS).zip(&self.words) {
            match *word {
                // Most words have no bit set, or all of them.
                0 => logits.fill(f32::NEG_INFINITY),
                u32::MAX => {}
                word => forbid(logits, word),
            }
        }
    }
}

fn forbid(logits: &mut [f32], word: u32) {
    for (bit, logit) in logits.iter_mut().enumerate() {
        if word & (1 << bit) == 0 {
            *logit = f32::NEG_INFINITY;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn token_is_forbidden_unless_its_bit_is_set(
            words in prop::collection::vec(prop_oneof![Just(0), Just(u32::MAX), any::<u32>()], 0..5),
            tokens in 0usize..180,
        ) {
            let mut logits = vec![1.0; tokens];
            Mask::new(words.clone()).apply(&mut logits);
            for (token, logit) in logits.into_iter().enumerate() {
                let is_set = words.get(token / 32).is_some_and(|word| word & (1 << (token % 32)) != 0);
                prop_assert_eq!(logit, if is_set { 1.0 } else { f32::NEG_INFINITY });
                prop_assert_eq!(Mask::new(words.clone()).contains(token as u32), is_set);
            }
        }
    }
}
