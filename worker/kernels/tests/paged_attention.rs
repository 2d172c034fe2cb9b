//! Paged attention computes its formula, with the same bits on every instruction set and however the queries are cut into
//! chunks.

use proptest::prelude::*;
use rbee_kernels::{AttentionParams, Heads, Isa, KvView, PAGE_TOKENS, Pool, attend_paged, store_kv};

#[derive(Debug, Clone)]
struct Case {
    heads: Heads,
    params: AttentionParams,
    tokens: usize,
    seed: u32,
}

fn cases() -> impl Strategy<Value = Case> {
    let heads = (1usize..4, 1usize..10, prop::sample::select(vec![16usize, 64, 80, 256]))
        .prop_map(|(key_values, group, size)| Heads { queries: key_values * group, key_values, size });
    let params = (prop::option::of(1.0f32..50.0), prop::option::of(1usize..80))
        .prop_map(|(soft_cap, window)| AttentionParams { scale: 0.2, soft_cap, window });
    (heads, params, 1usize..100, any::<u32>()).prop_map(|(heads, params, tokens, seed)| Case {
        heads,
        params,
        tokens,
        seed,
    })
}

/// Pseudorandom numbers from -1 to 1.
fn numbers(seed: u32, count: usize) -> Vec<f32> {
    let mut state = u64::from(seed) | 1 << 40;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(next).collect()
}

/// A sequence with its queries, keys and values, the last two also stored in pages.
struct Sequence {
    case: Case,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    pages: Vec<Vec<u16>>,
}

impl Sequence {
    fn new(case: Case) -> Self {
        let Heads { queries, key_values, size } = case.heads;
        let (query_count, wide) = (case.tokens * queries * size, key_values * size);
        // Rounded to 16 bits for the formula too, so that storing them changes nothing.
        let round =
            |numbers: Vec<f32>| numbers.into_iter().map(|number| half::f16::from_f32(number).to_f32()).collect();
        let keys: Vec<f32> = round(numbers(case.seed ^ 1, case.tokens * wide));
        let values: Vec<f32> = round(numbers(case.seed ^ 2, case.tokens * wide));
        let mut pages = vec![vec![0x7BFF; case.heads.page_layer_len()]; case.tokens.div_ceil(PAGE_TOKENS)];
        for token in 0..case.tokens {
            let at = token * wide..(token + 1) * wide;
            store_kv(&case.heads, &mut pages[token / PAGE_TOKENS], token, &keys[at.clone()], &values[at]);
        }
        Self { queries: numbers(case.seed ^ 3, query_count), case, keys, values, pages }
    }

    /// Attention of all queries, computed in chunks of `chunk` tokens.
    fn attend_paged(&self, isa: Isa, threads: usize, chunk: usize) -> Vec<f32> {
        let (heads, pool) = (&self.case.heads, Pool::new(threads));
        let row = heads.queries * heads.size;
        let mut out = vec![0.0; self.queries.len()];
        for start in (0..self.case.tokens).step_by(chunk) {
            let rows = chunk.min(self.case.tokens - start);
            let pages = self.pages.iter().map(Vec::as_slice).collect();
            let view = KvView { pages, start, rows: 0..rows };
            let at = start * row..(start + rows) * row;
            attend_paged(&pool, isa, heads, &self.case.params, &self.queries[at.clone()], &[view], &mut out[at]);
        }
        out
    }

    /// Attention of one query head by its definition, in 64 bits.
    fn expected(&self, token: usize, head: usize) -> Vec<f64> {
        let Heads { queries, key_values, size } = self.case.heads;
        let params = self.case.params;
        let key_value = head / (queries / key_values);
        let query = &self.queries[(token * queries + head) * size..][..size];
        let first = params.window.map_or(0, |window| (token + 1).saturating_sub(window));
        let at = |token: usize| (token * key_values + key_value) * size..(token * key_values + key_value + 1) * size;
        let weights: Vec<f64> = (first..=token)
            .map(|token| {
                let dot: f64 =
                    query.iter().zip(&self.keys[at(token)]).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                let score = dot * f64::from(params.scale);
                let soft_cap = params.soft_cap.map(f64::from);
                soft_cap.map_or(score, |soft_cap| soft_cap * (score / soft_cap).tanh()).exp()
            })
            .collect();
        let total: f64 = weights.iter().sum();
        let mut found = vec![0.0; size];
        for (token, weight) in (first..=token).zip(weights) {
            for (found, value) in found.iter_mut().zip(&self.values[at(token)]) {
                *found += weight / total * f64::from(*value);
            }
        }
        found
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn attention_is_the_weighted_mean_of_visible_values(case in cases()) {
        let sequence = Sequence::new(case);
        let found = sequence.attend_paged(Isa::detect(), 2, 1000);
        let Heads { queries, size, .. } = sequence.case.heads;
        for token in 0..sequence.case.tokens {
            for head in 0..queries {
                let found = &found[(token * queries + head) * size..][..size];
                for (found, expected) in found.iter().zip(sequence.expected(token, head)) {
                    prop_assert!((f64::from(*found) - expected).abs() < 2e-5, "{found} and {expected}");
                }
            }
        }
    }

    #[test]
    fn attention_has_the_same_bits_on_every_isa_in_any_chunks(
        case in cases(), threads in 1usize..4, chunk in 1usize..70,
    ) {
        let sequence = Sequence::new(case);
        let expected = sequence.attend_paged(Isa::Portable, 1, 1000);
        for isa in Isa::all() {
            let found = sequence.attend_paged(*isa, threads, chunk);
            let same = found.iter().zip(&expected).all(|(a, b)| *a == *b);
            prop_assert!(same, "{isa:?}, {threads} threads, {chunk} tokens at a time");
        }
    }
}

#[test]
fn nan_and_infinity_do_not_affect_earlier_tokens() {
    let heads = Heads { queries: 1, key_values: 1, size: 16 };
    let params = AttentionParams { scale: 0.2, soft_cap: None, window: None };
    let case = Case { heads, params, tokens: 2, seed: 1 };
    let intact = Sequence::new(case.clone());
    for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut damaged = Sequence::new(case.clone());
        store_kv(&heads, &mut damaged.pages[0], 1, &[wrong; 16], &[wrong; 16]);
        for isa in Isa::all() {
            let (found, expected) = (damaged.attend_paged(*isa, 1, 2), intact.attend_paged(*isa, 1, 2));
            assert_eq!(found[..16], expected[..16], "{isa:?}, {wrong}: the first token does not see the second");
        }
    }
}
