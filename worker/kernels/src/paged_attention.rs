//! Attention over pages of keys and values, without a table of all scores (Dao and others: FlashAttention, 2022; the pages
//! as in Kwon and others: PagedAttention, 2023).
//!
//! Keys and values are 16-bit floats in pages of [`PAGE_TOKENS`] tokens:
//!
//! ```text
//! page               layer 0 | layer 1 | ...
//! layer              key-value head 0 | key-value head 1 | ...
//! key-value head     keys, by dimension and then by token | values, by token and then by dimension
//! ```
//!
//! So the loops over tokens (scores) and over dimensions (values) both run along memory, and each sum is in the order of
//! dimensions or tokens, whatever the vector width.
//!
//! A query visits the pages one after another from the first one that it sees, always in whole pages. So its result depends
//! neither on other queries nor on how the prompt was cut into chunks.

use half::f16;

use crate::{
    Isa, Pool,
    lanes::{LANES, Lanes, PortableLanes},
    math::{exp, horizontal_max, horizontal_sum, tanh},
    pool::DisjointMut,
};

#[cfg(target_arch = "x86_64")]
use crate::lanes::{Avx2Lanes, Avx512Lanes};

/// Number of tokens of a page.
pub const PAGE_TOKENS: usize = 32;

/// Largest number of queries that are computed together, so that keys and values are converted to floats once for all.
const QUERIES: usize = 8;

/// Largest supported size of a head, in numbers. Sets the size of buffers on the stack; known models have at most 256.
pub const MAX_HEAD_SIZE: usize = 256;

/// Number and size of the attention heads of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Number of query heads; a multiple of the key-value heads.
    pub queries: usize,
    /// Number of key-value heads. Several query heads share one (grouped-query attention).
    pub key_values: usize,
    /// Size of a head in numbers: a multiple of 16, at most [`MAX_HEAD_SIZE`].
    pub size: usize,
}

impl Heads {
    /// 16-bit numbers of one layer in a page.
    #[must_use]
    pub fn page_layer_len(&self) -> usize {
        self.key_values * self.page_head_len()
    }

    /// 16-bit numbers of one key-value head in one layer of a page.
    fn page_head_len(&self) -> usize {
        2 * self.size * PAGE_TOKENS
    }
}

/// Parameters of attention in one layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionParams {
    /// Factor on scores.
    pub scale: f32,
    /// Soft cap of scores after scaling, see [`crate::soft_cap`]; `None` for no cap.
    pub soft_cap: Option<f32>,
    /// Number of tokens that a query attends to, its own included; `None` for all before it.
    pub window: Option<usize>,
}

/// Keys and values of one sequence in one layer, and the queries that attend to them.
pub struct KvView<'a> {
    /// The layer's part of each page of the sequence, in the order of the tokens.
    pub pages: Vec<&'a [u16]>,
    /// Position of the first query in the sequence.
    pub start: usize,
    /// Rows of the sequence among the query rows of all sequences.
    pub rows: std::ops::Range<usize>,
}

/// Writes keys and values of the token at `position` into the layer's part of its page. `keys` and `values` have the numbers
/// of all key-value heads.
///
/// # Panics
/// If `page`, `keys` or `values` is shorter than `heads` requires.
pub fn store_kv(heads: &Heads, page: &mut [u16], position: usize, keys: &[f32], values: &[f32]) {
    let (size, token) = (heads.size, position % PAGE_TOKENS);
    // All stored numbers are finite, because masked tokens are multiplied by zero and not skipped. `max` and `min` return
    // the other operand for NaN.
    #[expect(clippy::manual_clamp, reason = "clamp returns NaN for NaN")]
    let round = |number: &f32| f16::from_f32(number.max(-65504.0).min(65504.0)).to_bits();
    for (head, page) in page.chunks_exact_mut(heads.page_head_len()).enumerate() {
        let (page_keys, page_values) = page.split_at_mut(size * PAGE_TOKENS);
        for (dimension, key) in keys[head * size..][..size].iter().enumerate() {
            page_keys[dimension * PAGE_TOKENS + token] = round(key);
        }
        for (out, value) in page_values[token * size..][..size].iter_mut().zip(&values[head * size..][..size]) {
            *out = round(value);
        }
    }
}

/// Computes causal attention of all sequences: for each query the mean of the values that it sees, weighted by the softmax of
/// its products with their keys.
///
/// `queries` and `out` have one row of all query heads per token; each view names the rows of its sequence.
///
/// # Panics
/// If sizes do not match, or if a sequence has fewer pages than its queries see.
pub fn attend_paged(
    pool: &Pool,
    isa: Isa,
    heads: &Heads,
    params: &AttentionParams,
    queries: &[f32],
    views: &[KvView<'_>],
    out: &mut [f32],
) {
    assert!(heads.size.is_multiple_of(LANES) && heads.size <= MAX_HEAD_SIZE, "heads of {} numbers", heads.size);
    assert_eq!(queries.len(), out.len(), "one output per query");
    let group = heads.queries / heads.key_values;
    let total = views.iter().map(|view| view.rows.len() * group).sum::<usize>() * heads.key_values;
    // Fewer queries per task if there were not a task for each thread otherwise.
    let per_task = (total / pool.threads()).clamp(1, QUERIES).next_power_of_two();
    let per_task = if per_task > QUERIES { QUERIES } else { per_task };
    let mut tasks = Vec::new();
    for view in views {
        for head in 0..heads.key_values {
            let count = view.rows.len() * group;
            tasks.extend((0..count).step_by(per_task).map(|first| Task {
                view,
                head,
                first,
                count: per_task.min(count - first),
            }));
        }
    }
    let out = DisjointMut(out.as_mut_ptr());
    let job = Job { heads, params, queries, out, group };
    pool.run(tasks.len(), |index| {
        // The last tasks see the most tokens. They come first, so that no thread is left with a long one at the end.
        let Task { view, head, mut first, count } = tasks[tasks.len() - 1 - index];
        let end = first + count;
        while first < end {
            first += match end - first {
                8.. => attend_queries::<8>(isa, &job, view, head, first),
                4.. => attend_queries::<4>(isa, &job, view, head, first),
                2.. => attend_queries::<2>(isa, &job, view, head, first),
                _ => attend_queries::<1>(isa, &job, view, head, first),
            };
        }
    });
}

/// Queries of one sequence that share a key-value head. They are numbered by row, then by query head of the group.
#[derive(Clone, Copy)]
struct Task<'a> {
    view: &'a KvView<'a>,
    /// Key-value head.
    head: usize,
    first: usize,
    count: usize,
}

/// Arguments that all tasks share.
struct Job<'a> {
    heads: &'a Heads,
    params: &'a AttentionParams,
    queries: &'a [f32],
    out: DisjointMut<f32>,
    /// Query heads per key-value head.
    group: usize,
}

/// Computes `N` queries of a key-value head with the given instructions, and returns `N`.
fn attend_queries<const N: usize>(isa: Isa, job: &Job<'_>, view: &KvView<'_>, head: usize, first: usize) -> usize {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
    fn avx512<const N: usize>(job: &Job<'_>, view: &KvView<'_>, head: usize, first: usize) {
        // SAFETY: this function has the target features of `Avx512Lanes`.
        unsafe { attend_with::<Avx512Lanes, N>(job, view, head, first) }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn avx2<const N: usize>(job: &Job<'_>, view: &KvView<'_>, head: usize, first: usize) {
        // SAFETY: this function has the target features of `Avx2Lanes`.
        unsafe { attend_with::<Avx2Lanes, N>(job, view, head, first) }
    }

    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` value exists only if the processor has its instructions.
        Isa::Avx512 | Isa::Amx => unsafe { avx512::<N>(job, view, head, first) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx2 => unsafe { avx2::<N>(job, view, head, first) },
        // SAFETY: `PortableLanes` needs no instructions.
        _ => unsafe { attend_with::<PortableLanes, N>(job, view, head, first) },
    }
    N
}

/// Computes `N` queries: per page the scores, their softmax relative to the highest score so far, and the weighted values.
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
unsafe fn attend_with<L: Lanes, const N: usize>(job: &Job<'_>, view: &KvView<'_>, head: usize, first: usize) {
    let Job { heads, params, queries, out, group } = job;
    let size = heads.size;
    // Of each query: offset of its row and head, its position, the first position that it sees, its numbers.
    let mut offsets = [0; N];
    let mut positions = [0; N];
    let mut from = [0; N];
    let mut query: [&[f32]; N] = [&[]; N];
    for index in 0..N {
        let (row, member) = ((first + index) / group, (first + index) % group);
        offsets[index] = ((view.rows.start + row) * heads.queries + head * group + member) * size;
        positions[index] = view.start + row;
        from[index] = match params.window {
            Some(window) => (positions[index] + 1).saturating_sub(window),
            None => 0,
        };
        query[index] = &queries[offsets[index]..][..size];
    }
    let mut sums = [[0.0f32; MAX_HEAD_SIZE]; N];
    let (mut highest, mut total) = ([f32::NEG_INFINITY; N], [0.0f32; N]);
    for page in from[0] / PAGE_TOKENS..=positions[N - 1] / PAGE_TOKENS {
        let data = &view.pages[page][head * heads.page_head_len()..][..heads.page_head_len()];
        let (keys, values) = data.split_at(size * PAGE_TOKENS);
        // SAFETY: guaranteed by the caller; each query has as many numbers as a head.
        let mut weights = unsafe { scores::<L, N>(query, keys) };
        let mut rescale = [1.0f32; N];
        for index in 0..N {
            // Tokens of this page that the query sees: from `begin` to before `end`.
            let begin = from[index].saturating_sub(page * PAGE_TOKENS).min(PAGE_TOKENS);
            let end = (positions[index] + 1).saturating_sub(page * PAGE_TOKENS).min(PAGE_TOKENS);
            rescale[index] =
                online_softmax(params, &mut weights[index], begin, end, &mut highest[index], &mut total[index]);
        }
        // SAFETY: guaranteed by the caller.
        unsafe { add_weighted_values::<L, N>(&weights, values, size, rescale, &mut sums) };
    }
    for index in 0..N {
        // SAFETY: within the output, and no other task has this query.
        let out = unsafe { std::slice::from_raw_parts_mut(out.at(offsets[index]), size) };
        for (out, sum) in out.iter_mut().zip(&sums[index]) {
            *out = sum / total[index];
        }
    }
}

/// One page of an online softmax (Milakov and Gimelshein, 2018): replaces the scores by weights relative to the highest score
/// so far. Tokens outside `begin..end` get the weight 0. Returns the factor for all earlier weights and sums.
#[inline(always)]
fn online_softmax(
    params: &AttentionParams,
    scores: &mut [f32; PAGE_TOKENS],
    begin: usize,
    end: usize,
    highest: &mut f32,
    total: &mut f32,
) -> f32 {
    for score in scores.iter_mut() {
        *score *= params.scale;
    }
    if let Some(cap) = params.soft_cap {
        for score in scores.iter_mut() {
            *score = cap * tanh(*score / cap);
        }
    }
    for token in 0..PAGE_TOKENS {
        scores[token] = if token >= begin && token < end { scores[token] } else { f32::NEG_INFINITY };
    }
    let mut best = [*highest; LANES];
    for token in 0..PAGE_TOKENS {
        let lane = token % LANES;
        best[lane] = if scores[token] > best[lane] { scores[token] } else { best[lane] };
    }
    let best = horizontal_max(best);
    if best == f32::NEG_INFINITY {
        *scores = [0.0; PAGE_TOKENS];
        return 1.0;
    }
    let rescale = exp(*highest - best);
    let mut lanes = [0.0f32; LANES];
    for token in 0..PAGE_TOKENS {
        scores[token] = exp(scores[token] - best);
    }
    for token in 0..PAGE_TOKENS {
        lanes[token % LANES] += scores[token];
    }
    *total = total.mul_add(rescale, horizontal_sum(lanes));
    *highest = best;
    rescale
}

/// Products of queries with the keys of a page, before scaling.
///
/// # Safety
/// As for [`Lanes`]. Each query has at least as many numbers as the keys have dimensions.
#[inline(always)]
unsafe fn scores<L: Lanes, const N: usize>(queries: [&[f32]; N], keys: &[u16]) -> [[f32; PAGE_TOKENS]; N] {
    let mut scores = [[0.0; PAGE_TOKENS]; N];
    // SAFETY: guaranteed by the caller.
    unsafe {
        let mut sums = [[L::zero(); 2]; N];
        for (dimension, keys) in keys.as_chunks::<PAGE_TOKENS>().0.iter().enumerate() {
            let (halves, _) = keys.as_chunks::<LANES>();
            let (first, second) = (L::load_f16(&halves[0]), L::load_f16(&halves[1]));
            for index in 0..N {
                let query = *queries[index].get_unchecked(dimension);
                sums[index] = [first.mul_add(query, sums[index][0]), second.mul_add(query, sums[index][1])];
            }
        }
        for index in 0..N {
            let (halves, _) = scores[index].as_chunks_mut::<LANES>();
            sums[index][0].store(&mut halves[0]);
            sums[index][1].store(&mut halves[1]);
        }
    }
    scores
}

/// Computes `sums = sums * rescale + weights * values` for the values of a page.
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
unsafe fn add_weighted_values<L: Lanes, const N: usize>(
    weights: &[[f32; PAGE_TOKENS]; N],
    values: &[u16],
    size: usize,
    rescale: [f32; N],
    sums: &mut [[f32; MAX_HEAD_SIZE]; N],
) {
    let mut first = 0;
    // SAFETY: guaranteed by the caller.
    unsafe {
        while first + 2 * LANES <= size {
            add_weighted_dimensions::<L, N, 2>(weights, &values[first..], size, rescale, first, sums);
            first += 2 * LANES;
        }
        if first < size {
            add_weighted_dimensions::<L, N, 1>(weights, &values[first..], size, rescale, first, sums);
        }
    }
}

/// [`add_weighted_values`] for `V` times 16 dimensions from `first` on, whose sums stay in registers.
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
unsafe fn add_weighted_dimensions<L: Lanes, const N: usize, const V: usize>(
    weights: &[[f32; PAGE_TOKENS]; N],
    values: &[u16],
    size: usize,
    rescale: [f32; N],
    first: usize,
    sums: &mut [[f32; MAX_HEAD_SIZE]; N],
) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let mut vectors = [[L::zero(); V]; N];
        for index in 0..N {
            let before = sums[index][first..].as_chunks::<LANES>().0;
            for vector in 0..V {
                vectors[index][vector] = L::load(&before[vector]).scale(rescale[index]);
            }
        }
        for token in 0..PAGE_TOKENS {
            let values = values[token * size..].as_chunks::<LANES>().0;
            let mut floats = [L::zero(); V];
            for vector in 0..V {
                floats[vector] = L::load_f16(&values[vector]);
            }
            for index in 0..N {
                for vector in 0..V {
                    vectors[index][vector] = floats[vector].mul_add(weights[index][token], vectors[index][vector]);
                }
            }
        }
        for index in 0..N {
            let after = sums[index][first..].as_chunks_mut::<LANES>().0;
            for vector in 0..V {
                vectors[index][vector].store(&mut after[vector]);
            }
        }
    }
}
