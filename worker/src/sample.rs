//! Chooses the next token from a model's logits.
//!
//! A pure function of (logits, tokens so far, [`Sampling`], index of the token): no state, no clock, no generator that
//! has to be carried along. The order of the filters is the one of the OpenAI-compatible servers built on Hugging Face
//! transformers: repetition penalty, temperature, top-k, top-p, min-p, draw.

use rbee_schema::{Failure, FailureCode, Sampling};

use crate::draw;

/// How many of the last tokens the repetition penalty looks at (the default of llama.cpp).
pub const PENALTY_WINDOW: usize = 64;

/// A token that may be chosen; the weight is proportional to its probability, 1 for the likeliest.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    token: u32,
    weight: f64,
}

/// The token that follows `history` (prompt and answer so far), of which it is the `index`-th of the answer.
///
/// `logits` holds one unnormalised log-probability for each token of the vocabulary. A temperature of 0 takes the
/// likeliest token, and of equally likely ones the lowest id.
///
/// # Errors
/// `model-invalid` if a logit is not a finite number, or if there are none.
pub fn sample(logits: &[f32], history: &[u32], sampling: &Sampling, index: u32) -> Result<u32, Failure> {
    check(logits)?;
    let logits = penalise(logits, history, sampling.repetition_penalty);
    if sampling.temperature <= 0.0 {
        return Ok(likeliest(&logits));
    }
    let mut candidates = weigh(&logits, sampling.temperature);
    keep_top_k(&mut candidates, sampling.top_k);
    keep_top_p(&mut candidates, sampling.top_p);
    candidates.retain(|candidate| candidate.weight >= f64::from(sampling.min_p));
    Ok(pick(&candidates, draw::unit(sampling.seed, index)))
}

fn check(logits: &[f32]) -> Result<(), Failure> {
    let broken = logits.iter().filter(|logit| !logit.is_finite()).count();
    if broken == 0 && !logits.is_empty() {
        return Ok(());
    }
    let found = format!("{broken} of the {} scores that the model computed are not finite numbers", logits.len());
    Err(Failure::new(FailureCode::ModelInvalid, format!("{found}: its file may be damaged; compare its checksum")))
}

/// Divides positive logits of recent tokens by the penalty and multiplies negative ones, once for each distinct token
/// (Keskar and others: CTRL, 2019, section 4.1).
fn penalise(logits: &[f32], history: &[u32], penalty: f32) -> Vec<f32> {
    let mut penalised = logits.to_vec();
    if penalty == 1.0 {
        return penalised;
    }
    for &token in &history[history.len().saturating_sub(PENALTY_WINDOW)..] {
        if let Some(&logit) = logits.get(token as usize) {
            // Made from the untouched logits: a token that occurs twice is not penalised twice.
            let made = if logit > 0.0 { logit / penalty } else { logit * penalty };
            penalised[token as usize] = made.clamp(f32::MIN, f32::MAX);
        }
    }
    penalised
}

fn likeliest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    best as u32
}

/// Softmax without its denominator. In f64 and relative to the likeliest, so that no temperature overflows.
fn weigh(logits: &[f32], temperature: f32) -> Vec<Candidate> {
    let highest = f64::from(logits[likeliest(logits) as usize]);
    let weight = |logit: f32| ((f64::from(logit) - highest) / f64::from(temperature)).exp();
    (0u32..).zip(logits).map(|(token, &logit)| Candidate { token, weight: weight(logit) }).collect()
}

fn keep_top_k(candidates: &mut Vec<Candidate>, count: u32) {
    let count = count as usize;
    if count > 0 && count < candidates.len() {
        sort_leading(candidates, count);
        candidates.truncate(count);
    }
}

/// Keeps the fewest likeliest candidates whose probabilities reach `share` of the total.
fn keep_top_p(candidates: &mut Vec<Candidate>, share: f32) {
    if share >= 1.0 {
        return;
    }
    let wanted = f64::from(share) * candidates.iter().map(|candidate| candidate.weight).sum::<f64>();
    // A nucleus is mostly a few dozen tokens: sorting all of a large vocabulary would take longer than the rest here.
    let mut sorted = 128.min(candidates.len());
    loop {
        sort_leading(candidates, sorted);
        if let Some(count) = reaching(&candidates[..sorted], wanted) {
            return candidates.truncate(count);
        }
        if sorted == candidates.len() {
            return;
        }
        sorted = (sorted * 8).min(candidates.len());
    }
}

/// How many of the leading candidates it takes to reach a sum of weights.
fn reaching(candidates: &[Candidate], wanted: f64) -> Option<usize> {
    let mut sum = 0.0;
    candidates
        .iter()
        .position(|candidate| {
            sum += candidate.weight;
            sum >= wanted
        })
        .map(|last| last + 1)
}

/// Puts the `count` likeliest candidates in front, in order: likeliest first, of equally likely ones the lowest id.
fn sort_leading(candidates: &mut [Candidate], count: usize) {
    let order = |a: &Candidate, b: &Candidate| b.weight.total_cmp(&a.weight).then(a.token.cmp(&b.token));
    if count < candidates.len() {
        candidates.select_nth_unstable_by(count, order);
    }
    candidates[..count].sort_unstable_by(order);
}

/// The candidate at which the running sum of weights passes the share `draw` of their total.
fn pick(candidates: &[Candidate], draw: f64) -> u32 {
    let mut left = draw * candidates.iter().map(|candidate| candidate.weight).sum::<f64>();
    for candidate in candidates {
        left -= candidate.weight;
        if left < 0.0 {
            return candidate.token;
        }
    }
    // Only rounding leads here. The likeliest was never filtered out.
    let heaviest = candidates.iter().max_by(|a, b| a.weight.total_cmp(&b.weight));
    heaviest.map_or(0, |candidate| candidate.token)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: Sampling =
        Sampling { temperature: 1.0, top_p: 1.0, top_k: 0, min_p: 0.0, repetition_penalty: 1.0, seed: 1 };
    const GREEDY: Sampling = Sampling { temperature: 0.0, ..PLAIN };

    fn logits() -> impl Strategy<Value = Vec<f32>> {
        prop::collection::vec(-20.0f32..20.0, 1..300)
    }

    fn samplings() -> impl Strategy<Value = Sampling> {
        (0.01f32..2.0, 0.01f32..=1.0, 0u32..50, 0.0f32..=1.0, 0.5f32..2.0, any::<u64>()).prop_map(
            |(temperature, top_p, top_k, min_p, repetition_penalty, seed)| Sampling {
                temperature,
                top_p,
                top_k,
                min_p,
                repetition_penalty,
                seed,
            },
        )
    }

    /// Probabilities by the textbook: all of them, sorted.
    fn probabilities(logits: &[f32], temperature: f32) -> Vec<(u32, f64)> {
        let highest = logits.iter().copied().fold(f32::MIN, f32::max);
        let weights: Vec<f64> =
            logits.iter().map(|logit| (f64::from(logit - highest) / f64::from(temperature)).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mut sorted: Vec<(u32, f64)> = (0..).zip(weights.iter().map(|weight| weight / total)).collect();
        sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
        sorted
    }

    #[test]
    fn greedy_takes_the_likeliest_and_of_ties_the_lowest_id() {
        for (logits, expected) in [(&[0.0, 3.0, 1.0][..], 1), (&[-2.0, -1.0, -1.0], 1), (&[5.0], 0), (&[0.0, -0.0], 0)]
        {
            assert_eq!(sample(logits, &[], &GREEDY, 0), Ok(expected), "{logits:?}");
        }
    }

    #[test]
    fn scores_that_are_no_numbers_are_a_failure() {
        for logits in [&[][..], &[f32::NAN], &[1.0, f32::INFINITY], &[1.0, f32::NEG_INFINITY]] {
            let failure = sample(logits, &[], &PLAIN, 0).expect_err("not finite");
            assert_eq!(failure.code, FailureCode::ModelInvalid);
        }
    }

    #[test]
    fn the_penalty_counts_each_recent_token_once_and_forgets_old_ones() {
        let penalty = Sampling { repetition_penalty: 2.0, ..GREEDY };
        assert_eq!(sample(&[3.0, 2.0], &[0], &penalty, 0), Ok(1), "3 / 2 is less than 2");
        assert_eq!(
            sample(&[3.0, 1.0], &[0, 0, 0], &penalty, 0),
            Ok(0),
            "3 / 2 is more than 1, however often it occurs"
        );
        assert_eq!(sample(&[-2.0, -3.0], &[0], &penalty, 0), Ok(1), "negative scores are multiplied");
        let old: Vec<u32> = [0].into_iter().chain([1; PENALTY_WINDOW]).collect();
        assert_eq!(sample(&[3.0, 2.0], &old, &penalty, 0), Ok(0), "out of the window");
        assert_eq!(sample(&[3.0, 2.0], &[9], &penalty, 0), Ok(0), "an id beyond the vocabulary");
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let logits = [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln()];
        let mut counts = [0u32; 3];
        for index in 0..10_000 {
            counts[sample(&logits, &[], &PLAIN, index).expect("finite") as usize] += 1;
        }
        // Four standard deviations are at most 200.
        for (count, expected) in counts.into_iter().zip([5_000u32, 3_000, 2_000]) {
            assert!(count.abs_diff(expected) < 200, "{counts:?}");
        }
    }

    #[test]
    fn extreme_temperatures_and_scores_do_not_overflow() {
        let hot = Sampling { temperature: f32::MAX, ..PLAIN };
        let cold = Sampling { temperature: f32::MIN_POSITIVE, ..PLAIN };
        for index in 0..100 {
            assert!(sample(&[f32::MIN, f32::MAX, 0.0], &[], &hot, index).is_ok());
            assert_eq!(sample(&[f32::MIN, f32::MAX, 0.0], &[], &cold, index), Ok(1));
        }
    }

    proptest! {
        #[test]
        fn top_k_of_one_is_greedy(logits in logits(), sampling in samplings(), index: u32) {
            let one = Sampling { top_k: 1, ..sampling };
            let greedy = Sampling { temperature: 0.0, ..sampling };
            prop_assert_eq!(sample(&logits, &[3, 5], &one, index), sample(&logits, &[3, 5], &greedy, index));
        }

        #[test]
        fn the_choice_depends_on_nothing_but_its_arguments(
            logits in logits(), history in prop::collection::vec(0u32..300, 0..80), sampling in samplings(), index: u32,
        ) {
            let first = sample(&logits, &history, &sampling, index);
            let _ = sample(&logits, &history, &PLAIN, index.wrapping_add(1));
            prop_assert_eq!(sample(&logits, &history, &sampling, index), first);
        }

        #[test]
        fn the_choice_is_in_the_nucleus(
            logits in logits(), top_p in 0.01f32..1.0, temperature in 0.01f32..2.0, seed: u64,
        ) {
            let token = sample(&logits, &[], &Sampling { temperature, top_p, seed, ..PLAIN }, 0).expect("finite");
            let sorted = probabilities(&logits, temperature);
            let chosen = sorted.iter().find(|(id, _)| *id == token).expect("in the vocabulary").1;
            let likelier: f64 = sorted.iter().map(|(_, p)| *p).filter(|p| *p > chosen).sum();
            prop_assert!(likelier < f64::from(top_p) + 1e-9, "{likelier} of the probability is likelier");
        }

        #[test]
        fn the_choice_is_one_of_the_top_k_and_above_min_p(logits in logits(), sampling in samplings(), index: u32) {
            let sampling = Sampling { repetition_penalty: 1.0, ..sampling };
            let token = sample(&logits, &[], &sampling, index).expect("finite");
            let sorted = probabilities(&logits, sampling.temperature);
            let chosen = sorted.iter().find(|(id, _)| *id == token).expect("in the vocabulary").1;
            let likelier = sorted.iter().filter(|(_, p)| *p > chosen).count();
            prop_assert!(sampling.top_k == 0 || likelier < sampling.top_k as usize);
            prop_assert!(chosen >= f64::from(sampling.min_p) * sorted[0].1 * (1.0 - 1e-6));
        }
    }
}
