//! Log-probabilities of tokens, computed from the unadjusted logits of the model.

use super::weight;

/// Log-probabilities (natural logarithms) of the chosen token and of the likeliest tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprobs {
    /// Log-probability of the chosen token.
    pub chosen: f32,
    /// Ids and log-probabilities of the likeliest tokens, likeliest first; of equally likely tokens the lowest id first.
    pub top: Vec<(u32, f32)>,
}

impl Logprobs {
    /// Log-probabilities of the token `chosen` and of the `count` likeliest tokens.
    pub(super) fn of(chosen: u32, logits: &[f32], count: u32) -> Self {
        let highest = weight::highest(logits);
        let total = f64::from(highest) + weight::sum(logits, highest, 1.0).ln();
        let logprob = |logit: f32| (f64::from(logit) - total).clamp(f64::from(f32::MIN), 0.0) as f32;
        let top = leading(logits, count as usize);
        Self {
            chosen: logprob(logits[chosen as usize]),
            top: top.into_iter().map(|(id, logit)| (id, logprob(logit))).collect(),
        }
    }
}

/// The `count` highest logits with their ids.
fn leading(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    let mut leading: Vec<(u32, f32)> = Vec::with_capacity(count + 1);
    for (id, &logit) in (0u32..).zip(logits) {
        let is_full = leading.len() == count;
        if is_full && leading.last().is_none_or(|(_, last)| logit <= *last) {
            continue;
        }
        let at = leading.partition_point(|(_, other)| *other >= logit);
        leading.insert(at, (id, logit));
        leading.truncate(count);
    }
    leading
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equally_likely_tokens_are_ordered_by_id() {
        assert_eq!(leading(&[1.0, 3.0, 2.0, 3.0, 2.0], 3), [(1, 3.0), (3, 3.0), (2, 2.0)]);
        assert_eq!(leading(&[1.0], 3), [(0, 1.0)]);
        assert_eq!(leading(&[1.0], 0), []);
    }

    proptest! {
        #[test]
        fn probabilities_of_all_tokens_add_up_to_one(logits in prop::collection::vec(-30.0f32..30.0, 1..300)) {
            let all = Logprobs::of(0, &logits, logits.len() as u32);
            let total: f64 = all.top.iter().map(|(_, logprob)| f64::from(*logprob).exp()).sum();
            prop_assert!((total - 1.0).abs() < 1e-4, "{total}");
            prop_assert!(all.top.windows(2).all(|pair| pair[0].1 >= pair[1].1));
            let chosen = all.top.iter().find(|(id, _)| *id == 0).map(|(_, logprob)| *logprob);
            prop_assert_eq!(chosen, Some(all.chosen));
        }
    }
}
