//! How probable tokens are, by the model alone.

use super::weight;

/// The natural logarithms of probabilities: of the token that was made, and of the likeliest ones.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprobs {
    /// That of the token that was made.
    pub made: f32,
    /// Ids and logarithms, likeliest first; of equally likely ones the lowest id.
    pub top: Vec<(u32, f32)>,
}

impl Logprobs {
    /// Those of the token `made` and of the `count` likeliest, from logits as the model computed them.
    pub(super) fn of(made: u32, logits: &[f32], count: u32) -> Self {
        let highest = weight::highest(logits);
        let total = f64::from(highest) + weight::sum(logits, highest, 1.0).ln();
        let logprob = |logit: f32| (f64::from(logit) - total).clamp(f64::from(f32::MIN), 0.0) as f32;
        let top = leading(logits, count as usize);
        Self {
            made: logprob(logits[made as usize]),
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
        let place = leading.partition_point(|(_, other)| *other >= logit);
        leading.insert(place, (id, logit));
        leading.truncate(count);
    }
    leading
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equally_likely_tokens_come_by_their_ids() {
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
            let made = all.top.iter().find(|(id, _)| *id == 0).map(|(_, logprob)| *logprob);
            prop_assert_eq!(made, Some(all.made));
        }
    }
}
