//! Attention over pages of keys and values, without the table of all scores (Dao and others: FlashAttention, 2022).
//!
//! Keys and values are 16-bit floats in pages of [`PAGE`] tokens. In a page, for each layer and each key-value head, first
//! the keys, by dimension and then by token, then the values, by token and then by dimension: so that both sums run over
//! whole vectors, and the order of their terms is the one of dimensions and tokens, whatever the vectors' length.
//! A query looks at the pages one after another from the first that it sees. So what it finds depends neither on the other
//! queries nor on how the prompt was cut.

use half::f16;

use crate::{
    Isa, Pool,
    lanes::{LANES, Lanes, Plain},
    number::{exp, largest, sum, tanh},
    pool::Pieces,
};

#[cfg(target_arch = "x86_64")]
use crate::lanes::{Pair, Wide};

/// Tokens in a page.
pub const PAGE: usize = 32;

/// How many queries share the keys that were made into floats.
const QUERIES: usize = 8;

/// The largest head that is known of any model; memory of threads is cut to it.
pub const LARGEST_HEAD: usize = 256;

/// Sizes of the heads of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Heads that ask.
    pub queries: usize,
    /// Heads that are asked; several of the former share one.
    pub key_values: usize,
    /// Numbers in a head: a multiple of 16, at most [`LARGEST_HEAD`].
    pub size: usize,
}

impl Heads {
    /// 16-bit numbers that a page takes for one layer.
    #[must_use]
    pub fn page_layer(&self) -> usize {
        self.key_values * self.head_page()
    }

    /// The same for one key-value head.
    fn head_page(&self) -> usize {
        2 * self.size * PAGE
    }
}

/// How one layer looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look {
    /// What scores are multiplied with.
    pub scale: f32,
    /// What scores are bent below, see [`crate::soft_cap`].
    pub cap: Option<f32>,
    /// How many tokens a query sees, itself included.
    pub window: Option<usize>,
}

/// Pages of one sequence, for one layer: where the layer begins in each.
pub struct Sight<'a> {
    /// In the order of the tokens.
    pub pages: Vec<&'a [u16]>,
    /// Position of the first query.
    pub start: usize,
    /// Its rows among the queries of all sequences.
    pub rows: std::ops::Range<usize>,
}

/// Writes keys and values of the token at `position` into its page's part for the layer.
///
/// # Panics
/// If there are not as many numbers as `heads` says.
pub fn store(heads: &Heads, page: &mut [u16], position: usize, keys: &[f32], values: &[f32]) {
    let (size, token) = (heads.size, position % PAGE);
    // Finite whatever comes, as a page's numbers are multiplied with zero too: `max` and `min` drop what is no number.
    #[expect(clippy::manual_clamp, reason = "clamp keeps what is no number")]
    let round = |number: &f32| f16::from_f32(number.max(-65504.0).min(65504.0)).to_bits();
    for (head, page) in page.chunks_exact_mut(heads.head_page()).enumerate() {
        let (page_keys, page_values) = page.split_at_mut(size * PAGE);
        for (dimension, key) in keys[head * size..][..size].iter().enumerate() {
            page_keys[dimension * PAGE + token] = round(key);
        }
        for (out, value) in page_values[token * size..][..size].iter_mut().zip(&values[head * size..][..size]) {
            *out = round(value);
        }
    }
}

/// What each query finds: the mean of the values that it sees, weighted by the softmax of its products with their keys.
/// `queries` and `out` have rows of all heads, for every sequence of `sights` its own.
///
/// # Panics
/// If sizes do not match, or if a sequence has fewer pages than its queries see.
pub fn attend(
    pool: &Pool,
    isa: Isa,
    heads: &Heads,
    look: &Look,
    queries: &[f32],
    sights: &[Sight<'_>],
    out: &mut [f32],
) {
    assert!(heads.size.is_multiple_of(LANES) && heads.size <= LARGEST_HEAD, "heads of {} numbers", heads.size);
    assert_eq!(queries.len(), out.len(), "an output for each query");
    let group = heads.queries / heads.key_values;
    let most = sights.iter().map(|sight| sight.rows.len() * group).sum::<usize>() * heads.key_values;
    // Fewer at a time where there would be nothing to do for some of the threads.
    let at_once = (most / pool.threads()).clamp(1, QUERIES).next_power_of_two();
    let at_once = if at_once > QUERIES { QUERIES } else { at_once };
    let mut pieces = Vec::new();
    for sight in sights {
        for head in 0..heads.key_values {
            let count = sight.rows.len() * group;
            pieces.extend((0..count).step_by(at_once).map(|first| Piece {
                sight,
                head,
                first,
                count: at_once.min(count - first),
            }));
        }
    }
    let start = Pieces(out.as_mut_ptr());
    let whole = Whole { heads, look, queries, out: start, group };
    pool.run(pieces.len(), |index| {
        // Those that see most come first, so that nobody waits for them at the end.
        let Piece { sight, head, mut first, count } = pieces[pieces.len() - 1 - index];
        let end = first + count;
        while first < end {
            first += match end - first {
                8.. => some::<8>(isa, &whole, sight, head, first),
                4.. => some::<4>(isa, &whole, sight, head, first),
                2.. => some::<2>(isa, &whole, sight, head, first),
                _ => some::<1>(isa, &whole, sight, head, first),
            };
        }
    });
}

#[derive(Clone, Copy)]
struct Piece<'a> {
    sight: &'a Sight<'a>,
    head: usize,
    first: usize,
    count: usize,
}

struct Whole<'a> {
    heads: &'a Heads,
    look: &'a Look,
    queries: &'a [f32],
    out: Pieces<f32>,
    group: usize,
}

/// Answers `N` queries of a key-value head, which are numbered by row and then by head of its group.
fn some<const N: usize>(isa: Isa, whole: &Whole<'_>, sight: &Sight<'_>, head: usize, first: usize) -> usize {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
    fn avx512<const N: usize>(whole: &Whole<'_>, sight: &Sight<'_>, head: usize, first: usize) {
        // SAFETY: this function has the features of `Wide`.
        unsafe { answer::<Wide, N>(whole, sight, head, first) }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn avx2<const N: usize>(whole: &Whole<'_>, sight: &Sight<'_>, head: usize, first: usize) {
        // SAFETY: this function has the features of `Pair`.
        unsafe { answer::<Pair, N>(whole, sight, head, first) }
    }

    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this processor has them, or there would be no such `Isa`.
        Isa::Avx512 | Isa::Amx => unsafe { avx512::<N>(whole, sight, head, first) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx2 => unsafe { avx2::<N>(whole, sight, head, first) },
        // SAFETY: `Plain` needs nothing.
        _ => unsafe { answer::<Plain, N>(whole, sight, head, first) },
    }
    N
}

/// # Safety
/// As for [`Lanes`].
#[inline(always)]
unsafe fn answer<L: Lanes, const N: usize>(whole: &Whole<'_>, sight: &Sight<'_>, head: usize, first: usize) {
    let Whole { heads, look, queries, out, group } = whole;
    let size = heads.size;
    let mut places = [0; N];
    let mut positions = [0; N];
    let mut from = [0; N];
    let mut asked: [&[f32]; N] = [&[]; N];
    for index in 0..N {
        let (row, member) = ((first + index) / group, (first + index) % group);
        places[index] = ((sight.rows.start + row) * heads.queries + head * group + member) * size;
        positions[index] = sight.start + row;
        from[index] = match look.window {
            Some(window) => (positions[index] + 1).saturating_sub(window),
            None => 0,
        };
        asked[index] = &queries[places[index]..][..size];
    }
    let mut found = [[0.0f32; LARGEST_HEAD]; N];
    let (mut highest, mut total) = ([f32::NEG_INFINITY; N], [0.0f32; N]);
    for page in from[0] / PAGE..=positions[N - 1] / PAGE {
        let here = &sight.pages[page][head * heads.head_page()..][..heads.head_page()];
        let (keys, values) = here.split_at(size * PAGE);
        // SAFETY: promised by the caller; queries are as long as heads are.
        let mut scores = unsafe { scores::<L, N>(asked, keys) };
        let mut shrink = [1.0f32; N];
        for index in 0..N {
            // Places within this page: those seen begin at the first and end before the second.
            let begin = from[index].saturating_sub(page * PAGE).min(PAGE);
            let end = (positions[index] + 1).saturating_sub(page * PAGE).min(PAGE);
            shrink[index] = weigh(look, &mut scores[index], begin, end, &mut highest[index], &mut total[index]);
        }
        // SAFETY: promised by the caller.
        unsafe { gather::<L, N>(&scores, values, size, shrink, &mut found) };
    }
    for index in 0..N {
        // SAFETY: within the output; nobody else answers this query.
        let out = unsafe { std::slice::from_raw_parts_mut(out.at(places[index]), size) };
        for (out, found) in out.iter_mut().zip(&found[index]) {
            *out = found / total[index];
        }
    }
}

/// Makes scores of a page into weights relative to the highest so far; those outside `begin..end` weigh nothing. Returns
/// what all earlier ones are to be multiplied with.
#[inline(always)]
fn weigh(look: &Look, scores: &mut [f32; PAGE], begin: usize, end: usize, highest: &mut f32, total: &mut f32) -> f32 {
    for score in scores.iter_mut() {
        *score *= look.scale;
    }
    if let Some(cap) = look.cap {
        for score in scores.iter_mut() {
            *score = cap * tanh(*score / cap);
        }
    }
    for token in 0..PAGE {
        scores[token] = if token >= begin && token < end { scores[token] } else { f32::NEG_INFINITY };
    }
    let mut best = [*highest; LANES];
    for token in 0..PAGE {
        let lane = token % LANES;
        best[lane] = if scores[token] > best[lane] { scores[token] } else { best[lane] };
    }
    let best = largest(best);
    if best == f32::NEG_INFINITY {
        *scores = [0.0; PAGE];
        return 1.0;
    }
    let shrink = exp(*highest - best);
    let mut lanes = [0.0f32; LANES];
    for token in 0..PAGE {
        scores[token] = exp(scores[token] - best);
    }
    for token in 0..PAGE {
        lanes[token % LANES] += scores[token];
    }
    *total = total.mul_add(shrink, sum(lanes));
    *highest = best;
    shrink
}

/// Products of queries with the keys of a page.
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
unsafe fn scores<L: Lanes, const N: usize>(queries: [&[f32]; N], keys: &[u16]) -> [[f32; PAGE]; N] {
    let mut scores = [[0.0; PAGE]; N];
    // SAFETY: promised by the caller.
    unsafe {
        let mut sums = [[L::zero(); 2]; N];
        for (dimension, keys) in keys.as_chunks::<PAGE>().0.iter().enumerate() {
            let (halves, _) = keys.as_chunks::<LANES>();
            let (first, second) = (L::of_f16(&halves[0]), L::of_f16(&halves[1]));
            for index in 0..N {
                let query = *queries[index].get_unchecked(dimension);
                sums[index] = [first.fused(query, sums[index][0]), second.fused(query, sums[index][1])];
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

/// Adds the values of a page, each by its weight, to what was found before, which shrinks first.
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
unsafe fn gather<L: Lanes, const N: usize>(
    weights: &[[f32; PAGE]; N],
    values: &[u16],
    size: usize,
    shrink: [f32; N],
    found: &mut [[f32; LARGEST_HEAD]; N],
) {
    let mut first = 0;
    // SAFETY: promised by the caller.
    unsafe {
        while first + 2 * LANES <= size {
            gather_some::<L, N, 2>(weights, &values[first..], size, shrink, first, found);
            first += 2 * LANES;
        }
        if first < size {
            gather_some::<L, N, 1>(weights, &values[first..], size, shrink, first, found);
        }
    }
}

/// The same for `V` times 16 dimensions from `first`.
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
unsafe fn gather_some<L: Lanes, const N: usize, const V: usize>(
    weights: &[[f32; PAGE]; N],
    values: &[u16],
    size: usize,
    shrink: [f32; N],
    first: usize,
    found: &mut [[f32; LARGEST_HEAD]; N],
) {
    // SAFETY: promised by the caller.
    unsafe {
        let mut sums = [[L::zero(); V]; N];
        for index in 0..N {
            let before = found[index][first..].as_chunks::<LANES>().0;
            for vector in 0..V {
                sums[index][vector] = L::of(&before[vector]).times(shrink[index]);
            }
        }
        for token in 0..PAGE {
            let values = values[token * size..].as_chunks::<LANES>().0;
            let mut floats = [L::zero(); V];
            for vector in 0..V {
                floats[vector] = L::of_f16(&values[vector]);
            }
            for index in 0..N {
                for vector in 0..V {
                    sums[index][vector] = floats[vector].fused(weights[index][token], sums[index][vector]);
                }
            }
        }
        for index in 0..N {
            let after = found[index][first..].as_chunks_mut::<LANES>().0;
            for vector in 0..V {
                sums[index][vector].store(&mut after[vector]);
            }
        }
    }
}
