//! Draws a token from those that top-k, top-p and min-p leave.

use rbee_schema::Sampling;

use super::weight::{self, BLOCK};
use crate::draw;

/// How far below the highest logit is looked for enough tokens to draw from, in temperatures: mostly a few dozen of a
/// vocabulary lie within the first of these. Where none suffices, all tokens are looked at.
const REACHES: [f64; 4] = [4.0, 8.0, 16.0, 32.0];

/// A token that may be drawn; the weight is proportional to its probability, 1 for the likeliest.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    token: u32,
    logit: f32,
    weight: f64,
}

/// The token of the `index`-th draw.
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

/// Tokens among which are all that the filters leave, in the order of their ids.
fn candidates(logits: &[f32], highest: f32, sampling: &Sampling, total: f64) -> Vec<Candidate> {
    let Sampling { temperature, top_k, top_p, min_p, .. } = *sampling;
    for reach in REACHES {
        let near = within(logits, highest, temperature, reach);
        let is_enough = (top_k > 0 && near.len() >= top_k as usize)
            || (top_k == 0 && top_p < 1.0 && sum(&near) >= f64::from(top_p) * total)
            || (-reach).exp() < f64::from(min_p);
        if is_enough {
            return near;
        }
    }
    within(logits, highest, temperature, f64::INFINITY)
}

/// The tokens whose logits lie at most `reach` temperatures below the highest.
///
/// Weights are computed in 64 bits and relative to the likeliest, so that no temperature overflows.
fn within(logits: &[f32], highest: f32, temperature: f32, reach: f64) -> Vec<Candidate> {
    let lowest = (f64::from(highest) - reach * f64::from(temperature)) as f32;
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

/// Keeps the fewest likeliest candidates whose weights reach a sum.
fn keep_top_p(candidates: &mut Vec<Candidate>, wanted: f64) {
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
    let order = |a: &Candidate, b: &Candidate| b.logit.total_cmp(&a.logit).then(a.token.cmp(&b.token));
    if count < candidates.len() {
        candidates.select_nth_unstable_by(count, order);
    }
    candidates[..count].sort_unstable_by(order);
}

/// The candidate at which the running sum of weights passes the share `drawn` of their total.
fn pick(candidates: &[Candidate], drawn: f64) -> u32 {
    let mut left = drawn * sum(candidates);
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

/// The same among all tokens: first the block in which the sum passes, then the token in it.
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
            // A block's sum has fewer digits than the weights in it: where it was too large, its last token is meant.
            last = if weight > 0.0 { token } else { last };
            if left < 0.0 && weight > 0.0 {
                return token;
            }
        }
        return last;
    }
    super::first(logits, highest)
}
