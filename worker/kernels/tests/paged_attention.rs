//! Attention finds what its formula says, the same bits on every processor and however the queries are cut.

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

/// F16Buffer from -1 to 1.
fn numbers(seed: u32, count: usize) -> Vec<f32> {
    let mut state = u64::from(seed) | 1 << 40;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(next).collect()
}

struct Scene {
    case: Case,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    pages: Vec<Vec<u16>>,
}

impl Scene {
    fn of(case: Case) -> Self {
        let Heads { queries, key_values, size } = case.heads;
        let (asked, wide) = (case.tokens * queries * size, key_values * size);
        // Of what the formula needs, so that rounding to 16 bits changes nothing.
        let round =
            |numbers: Vec<f32>| numbers.into_iter().map(|number| half::f16::from_f32(number).to_f32()).collect();
        let keys: Vec<f32> = round(numbers(case.seed ^ 1, case.tokens * wide));
        let values: Vec<f32> = round(numbers(case.seed ^ 2, case.tokens * wide));
        let mut pages = vec![vec![0x7BFF; case.heads.page_layer_len()]; case.tokens.div_ceil(PAGE_TOKENS)];
        for token in 0..case.tokens {
            let at = token * wide..(token + 1) * wide;
            store_kv(&case.heads, &mut pages[token / PAGE_TOKENS], token, &keys[at.clone()], &values[at]);
        }
        Self { queries: numbers(case.seed ^ 3, asked), case, keys, values, pages }
    }

    /// The queries from token `start`, cut into parts of so many tokens.
    fn attend_paged(&self, isa: Isa, threads: usize, part: usize) -> Vec<f32> {
        let (heads, pool) = (&self.case.heads, Pool::new(threads));
        let row = heads.queries * heads.size;
        let mut out = vec![0.0; self.queries.len()];
        for start in (0..self.case.tokens).step_by(part) {
            let rows = part.min(self.case.tokens - start);
            let pages = self.pages.iter().map(Vec::as_slice).collect();
            let view = KvView { pages, start, rows: 0..rows };
            let at = start * row..(start + rows) * row;
            attend_paged(&pool, isa, heads, &self.case.params, &self.queries[at.clone()], &[view], &mut out[at]);
        }
        out
    }

    /// By the textbook, in 64 bits.
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
    fn a_query_finds_the_mean_of_what_it_sees(case in cases()) {
        let scene = Scene::of(case);
        let found = scene.attend_paged(Isa::detect(), 2, 1000);
        let Heads { queries, size, .. } = scene.case.heads;
        for token in 0..scene.case.tokens {
            for head in 0..queries {
                let found = &found[(token * queries + head) * size..][..size];
                for (found, expected) in found.iter().zip(scene.expected(token, head)) {
                    prop_assert!((f64::from(*found) - expected).abs() < 2e-5, "{found} and {expected}");
                }
            }
        }
    }

    #[test]
    fn what_is_found_depends_neither_on_processor_nor_threads_nor_parts(
        case in cases(), threads in 1usize..4, part in 1usize..70,
    ) {
        let scene = Scene::of(case);
        let expected = scene.attend_paged(Isa::Portable, 1, 1000);
        for isa in Isa::all() {
            let found = scene.attend_paged(*isa, threads, part);
            let same = found.iter().zip(&expected).all(|(a, b)| *a == *b);
            prop_assert!(same, "{isa:?}, {threads} threads, {part} tokens at a time");
        }
    }
}

#[test]
fn numbers_that_are_none_spoil_nothing_before_their_token() {
    let heads = Heads { queries: 1, key_values: 1, size: 16 };
    let params = AttentionParams { scale: 0.2, soft_cap: None, window: None };
    let case = Case { heads, params, tokens: 2, seed: 1 };
    let whole = Scene::of(case.clone());
    for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut spoilt = Scene::of(case.clone());
        store_kv(&heads, &mut spoilt.pages[0], 1, &[wrong; 16], &[wrong; 16]);
        for isa in Isa::all() {
            let (found, expected) = (spoilt.attend_paged(*isa, 1, 2), whole.attend_paged(*isa, 1, 2));
            assert_eq!(found[..16], expected[..16], "{isa:?}, {wrong}: the first token does not see the second");
        }
    }
}
