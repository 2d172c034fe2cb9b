//! Draws a token from those that remain after top-k, top-p and min-p.

use rbee_schema::Sampling;

use super::weight::{self, BLOCK};
use crate::draw;

/// Distances below the highest logit, in temperatures, within which candidates are searched. Usually a few dozen tokens lie within
/// the first distance. If none of them suffices, all tokens become candidates.
const DISTANCES: [f64; 4] = [4.0, 8.0, 16.0, 32.0];

/// A token that may be drawn. Its weight is proportional to its probability, and 1 for the likeliest token.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    token: u32,
    logit: f32,
    weight: f64,
}

/// Draws the `index`-th token of an answer.
pub(super) fn draw(logits: &[f32], highest: f32, sampling: &Sampling, index: u32) -> u32 {
    let drawn = draw::unit(sampling.seed, index);
    let Sampling { temperature, top_k, top_p, min_p, .. } = *sampling;
    if top_k == 0 && top_p >= 1.0 && min_p <= 0.0 {
        return pick_of_all(logits, highest, temperature, drawn);
    }
    let total = if top_k == 0 && top_p < 1.0 { weight::sum(logits, highest, temperature) } else { 0.0 };
    let mut candidates = candidates(logits, highest, sampling, total);
    keep_top_k(&mut candidates, top_k);
    if top_p < 1.0 {
        let total = if top_k == 0 { total } else { sum(&candidates) };
        keep_top_p(&mut candidates, f64::from(top_p) * total);
    }
    candidates.retain(|candidate| candidate.weight >= f64::from(min_p));
    pick(&candidates, drawn)
}

/// Candidates for the filters, ordered by id: at least all tokens that the filters keep.
fn candidates(logits: &[f32], highest: f32, sampling: &Sampling, total: f64) -> Vec<Candidate> {
    let Sampling { temperature, top_k, top_p, min_p, .. } = *sampling;
    for distance in DISTANCES {
        let near = candidates_near(logits, highest, temperature, distance);
        let is_enough = (top_k > 0 && near.len() >= top_k as usize)
            || (top_k == 0 && top_p < 1.0 && sum(&near) >= f64::from(top_p) * total)
            || (-distance).exp() < f64::from(min_p);
        if is_enough {
            return near;
        }
    }
    candidates_near(logits, highest, temperature, f64::INFINITY)
}

/// The tokens whose logits are at most `distance` temperatures below the highest.
///
/// Weights are computed in 64 bits and relative to the likeliest, so that no temperature overflows.
fn candidates_near(logits: &[f32], highest: f32, temperature: f32, distance: f64) -> Vec<Candidate> {
    let lowest = (f64::from(highest) - distance * f64::from(temperature)) as f32;
    let near = (0u32..).zip(logits).filter(|(_, logit)| **logit >= lowest && **logit > f32::NEG_INFINITY);
    near.map(|(token, &logit)| Candidate { token, logit, weight: weight(logit, highest, temperature) }).collect()
}

fn weight(logit: f32, highest: f32, temperature: f32) -> f64 {
    ((f64::from(logit) - f64::from(highest)) / f64::from(temperature)).exp()
}

fn sum(candidates: &[Candidate]) -> f64 {
    candidates.iter().map(|candidate| candidate.weight).sum()
}

fn keep_top_k(candidates: &mut Vec<Candidate>, count: u32) {
    let count = count as usize;
    if count > 0 && count < candidates.len() {
        sort_leading(candidates, count);
        candidates.truncate(count);
    }
}

/// Keeps the smallest number of likeliest candidates whose weights reach `target`.
fn keep_top_p(candidates: &mut Vec<Candidate>, target: f64) {
    // The result is usually a few dozen tokens. Sorting a large vocabulary would take longer than everything else here.
    let mut sorted = 128.min(candidates.len());
    loop {
        sort_leading(candidates, sorted);
        if let Some(count) = count_reaching(&candidates[..sorted], target) {
            return candidates.truncate(count);
        }
        if sorted == candidates.len() {
            return;
        }
        sorted = (sorted * 8).min(candidates.len());
    }
}

/// Number of leading candidates whose weights reach `target`; `None` if all together do not.
fn count_reaching(candidates: &[Candidate], target: f64) -> Option<usize> {
    let mut sum = 0.0;
    candidates
        .iter()
        .position(|candidate| {
            sum += candidate.weight;
            sum >= target
        })
        .map(|last| last + 1)
}

/// Moves the `count` likeliest candidates to the front, likeliest first; of equally likely ones the lowest id first.
fn sort_leading(candidates: &mut [Candidate], count: usize) {
    let order = |a: &Candidate, b: &Candidate| b.logit.total_cmp(&a.logit).then(a.token.cmp(&b.token));
    if count < candidates.len() {
        candidates.select_nth_unstable_by(count, order);
    }
    candidates[..count].sort_unstable_by(order);
}

/// The candidate at which the running sum of weights exceeds the share `drawn` of their total.
fn pick(candidates: &[Candidate], drawn: f64) -> u32 {
    let mut left = drawn * sum(candidates);
    for candidate in candidates {
        left -= candidate.weight;
        if left < 0.0 {
            return candidate.token;
        }
    }
    // Reached only by rounding. The likeliest candidate is never filtered out.
    let heaviest = candidates.iter().max_by(|a, b| a.weight.total_cmp(&b.weight));
    heaviest.map_or(0, |candidate| candidate.token)
}

/// As [`pick`], among all tokens: finds first the block in which the sum exceeds the share, then the token in the block.
fn pick_of_all(logits: &[f32], highest: f32, temperature: f32, drawn: f64) -> u32 {
    let sums: Vec<f64> = logits.chunks(BLOCK).map(|block| weight::block_sum(block, highest, temperature)).collect();
    let mut left = drawn * sums.iter().sum::<f64>();
    let mut last = 0;
    for (number, (block, sum)) in logits.chunks(BLOCK).zip(sums).enumerate() {
        if left >= sum {
            left -= sum;
            continue;
        }
        for (token, &logit) in ((number * BLOCK) as u32..).zip(block) {
            let weight = weight(logit, highest, temperature);
            left -= weight;
            // The sum of a block has fewer digits than its weights. If it was too large, the last token of the block is chosen.
            last = if weight > 0.0 { token } else { last };
            if left < 0.0 && weight > 0.0 {
                return token;
            }
        }
        return last;
    }
    first_with(logits, highest)
}

/// Lowest token id with this logit.
pub(super) fn first_with(logits: &[f32], value: f32) -> u32 {
    logits.iter().position(|logit| *logit == value).unwrap_or(0) as u32
}
