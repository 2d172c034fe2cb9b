//! Rules of sampling, on small vocabularies.

use proptest::prelude::*;

use super::*;

const GREEDY: Sampling = Sampling::GREEDY;

fn plain() -> Sampling {
    Sampling { temperature: 1.0, seed: 1, ..GREEDY }
}

/// The id of the chosen token.
fn chosen(logits: &[f32], history: &[u32], sampling: &Sampling, index: u32) -> Result<u32, Failure> {
    sample(logits, history, sampling, None, index).map(|token| token.id)
}

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
            ..GREEDY
        },
    )
}

/// Probabilities of all tokens by the definition of softmax, likeliest first.
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
fn greedy_chooses_the_likeliest_token_with_the_lowest_id() {
    for (logits, expected) in [(&[0.0, 3.0, 1.0][..], 1), (&[-2.0, -1.0, -1.0], 1), (&[5.0], 0), (&[0.0, -0.0], 0)] {
        assert_eq!(chosen(logits, &[], &GREEDY, 0), Ok(expected), "{logits:?}");
    }
}

#[test]
fn logits_that_are_not_finite_are_refused() {
    for logits in [&[][..], &[f32::NAN], &[1.0, f32::INFINITY], &[1.0, f32::NEG_INFINITY]] {
        let failure = chosen(logits, &[], &plain(), 0).expect_err("not finite");
        assert_eq!(failure.code, FailureCode::ModelInvalid);
    }
}

#[test]
fn repetition_penalty_counts_each_recent_token_once() {
    let penalty = Sampling { repetition_penalty: 2.0, ..GREEDY };
    assert_eq!(chosen(&[3.0, 2.0], &[0], &penalty, 0), Ok(1), "3 / 2 is less than 2");
    assert_eq!(
        chosen(&[3.0, 1.0], &[0, 0, 0], &penalty, 0),
        Ok(0),
        "3 / 2 is more than 1, independent of the number of occurrences"
    );
    assert_eq!(chosen(&[-2.0, -3.0], &[0], &penalty, 0), Ok(1), "negative scores are multiplied");
    let old: Vec<u32> = [0].into_iter().chain([1; PENALTY_WINDOW]).collect();
    assert_eq!(chosen(&[3.0, 2.0], &old, &penalty, 0), Ok(0), "out of the window");
    assert_eq!(chosen(&[3.0, 2.0], &[9], &penalty, 0), Ok(0), "an id beyond the vocabulary");
}

#[test]
fn draws_follow_the_probabilities() {
    let logits = [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln()];
    let mut counts = [0u32; 3];
    for index in 0..10_000 {
        counts[chosen(&logits, &[], &plain(), index).expect("finite") as usize] += 1;
    }
    // Four standard deviations are at most 200.
    for (count, expected) in counts.into_iter().zip([5_000u32, 3_000, 2_000]) {
        assert!(count.abs_diff(expected) < 200, "{counts:?}");
    }
}

#[test]
fn extreme_temperatures_and_logits_do_not_overflow() {
    let hot = Sampling { temperature: f32::MAX, ..plain() };
    let cold = Sampling { temperature: f32::MIN_POSITIVE, ..plain() };
    for index in 0..100 {
        assert!(chosen(&[f32::MIN, f32::MAX, 0.0], &[], &hot, index).is_ok());
        assert_eq!(chosen(&[f32::MIN, f32::MAX, 0.0], &[], &cold, index), Ok(1));
    }
}

proptest! {
    #[test]
    fn top_k_of_one_is_greedy(logits in logits(), sampling in samplings(), index: u32) {
        let one = Sampling { top_k: 1, ..sampling.clone() };
        let greedy = Sampling { temperature: 0.0, ..sampling };
        prop_assert_eq!(chosen(&logits, &[3, 5], &one, index), chosen(&logits, &[3, 5], &greedy, index));
    }

    #[test]
    fn choice_depends_on_its_arguments_only(
        logits in logits(), history in prop::collection::vec(0u32..300, 0..80), sampling in samplings(), index: u32,
    ) {
        let first = chosen(&logits, &history, &sampling, index);
        let _ = chosen(&logits, &history, &plain(), index.wrapping_add(1));
        prop_assert_eq!(chosen(&logits, &history, &sampling, index), first);
    }

    #[test]
    fn choice_is_in_the_nucleus(
        logits in logits(), top_p in 0.01f32..1.0, temperature in 0.01f32..2.0, seed: u64,
    ) {
        let token = chosen(&logits, &[], &Sampling { temperature, top_p, seed, ..plain() }, 0).expect("finite");
        let sorted = probabilities(&logits, temperature);
        let chosen = sorted.iter().find(|(id, _)| *id == token).expect("in the vocabulary").1;
        let likelier: f64 = sorted.iter().map(|(_, p)| *p).filter(|p| *p > chosen).sum();
        prop_assert!(likelier < f64::from(top_p) + 1e-9, "{likelier} of the probability is likelier");
    }

    #[test]
    fn choice_is_one_of_the_top_k_and_above_min_p(logits in logits(), sampling in samplings(), index: u32) {
        let sampling = Sampling { repetition_penalty: 1.0, ..sampling };
        let token = chosen(&logits, &[], &sampling, index).expect("finite");
        let sorted = probabilities(&logits, sampling.temperature);
        let chosen = sorted.iter().find(|(id, _)| *id == token).expect("in the vocabulary").1;
        let likelier = sorted.iter().filter(|(_, p)| *p > chosen).count();
        prop_assert!(sampling.top_k == 0 || likelier < sampling.top_k as usize);
        prop_assert!(chosen >= f64::from(sampling.min_p) * sorted[0].1 * (1.0 - 1e-6));
    }
}

#[test]
fn draws_from_a_large_vocabulary_have_the_expected_mean() {
    // More tokens than one block, and a nucleus that extends beyond the first distance.
    let logits: Vec<f32> = (0..5_000u32).map(|token| (token % 97) as f32 / 10.0).collect();
    for sampling in [
        plain(),
        Sampling { top_p: 0.99, ..plain() },
        Sampling { min_p: 0.001, ..plain() },
        Sampling { top_k: 4_000, temperature: 2.0, ..plain() },
    ] {
        let mean = |value: &dyn Fn(u32) -> f32| (0..400).map(|index| f64::from(value(index))).sum::<f64>() / 400.0;
        let drawn = mean(&|index| logits[chosen(&logits, &[], &sampling, index).expect("finite") as usize]);
        let weights: Vec<f64> =
            logits.iter().map(|l| (f64::from(*l) / f64::from(sampling.temperature)).exp()).collect();
        let expected =
            logits.iter().zip(&weights).map(|(l, w)| f64::from(*l) * w).sum::<f64>() / weights.iter().sum::<f64>();
        // The filters cut the unlikely tokens off, so that the mean may be a little higher.
        assert!((drawn - expected).abs() < 0.25, "{drawn} for {expected} with {sampling:?}");
    }
}

#[test]
fn request_that_allows_no_token_is_refused() {
    let none = Sampling { min_tokens: 1, eos_tokens: vec![0, 1], ..GREEDY };
    let failure = chosen(&[1.0, 2.0], &[], &none, 0).expect_err("nothing is left");
    assert_eq!(failure.code, FailureCode::InvalidRequest);
}

#[test]
fn logprobs_ignore_sampling_parameters() {
    let sampling = Sampling {
        logprobs: Some(2),
        temperature: 0.3,
        repetition_penalty: 3.0,
        top_k: 1,
        min_tokens: 1,
        eos_tokens: vec![1],
        seed: 3,
        ..GREEDY
    };
    let logits = [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln()];
    let token = sample(&logits, &[0], &sampling, None, 0).expect("finite");
    let logprobs = token.logprobs.expect("requested");
    assert_eq!(token.id, 2, "0 is penalized and 1 would end the answer");
    assert!((logprobs.chosen - 0.2f32.ln()).abs() < 1e-4, "{logprobs:?}");
    assert_eq!(logprobs.top.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [0, 1]);
}
