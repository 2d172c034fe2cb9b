//! Products with 256-bit vectors: a lane for each of eight rows, half of a strip.
//!
//! Bytes are multiplied in pairs whose 16-bit sums must not overflow. So quants stay at the bottom of bytes here, as many
//! products are added as fit, and scales make up for the quants that other kernels move up, a power of two.

use std::arch::x86_64::{
    __m128i, __m256, __m256i, _MM_HINT_T0, _mm_loadl_epi64, _mm_loadu_si128, _mm_prefetch, _mm256_abs_epi8,
    _mm256_add_epi16, _mm256_add_epi32, _mm256_and_si256, _mm256_castsi256_ps, _mm256_cvtepi8_epi32,
    _mm256_cvtepi32_ps, _mm256_cvtepu16_epi32, _mm256_cvtph_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256,
    _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_or_si256, _mm256_set1_epi8, _mm256_set1_epi16,
    _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps, _mm256_setzero_si256, _mm256_sign_epi8, _mm256_slli_epi16,
    _mm256_slli_epi32, _mm256_srai_epi32, _mm256_srli_epi16, _mm256_storeu_ps, _mm256_xor_si256,
};

use crate::{
    form::{Form, LINE, ROWS, TILES, for_kind},
    inputs::{Block, GROUP, Rows},
    kind::Kind,
};

/// How far ahead weights are fetched from memory.
const AHEAD: usize = 4096;
/// Rows of half a strip, a vector of sums.
const HALF: usize = ROWS / 2;

/// Adds the products of a strip with rows of inputs to `sums`, one for each row of inputs.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn multiply_quants(kind: Kind, strip: &[u8], inputs: Rows, sums: &mut [[f32; ROWS]]) {
    for_kind!(kind, multiply_kind(strip, inputs, sums));
}

#[target_feature(enable = "avx2,fma,f16c")]
fn multiply_kind<const KIND: u8>(strip: &[u8], inputs: Rows, sums: &mut [[f32; ROWS]]) {
    let form = const { Form::of(KIND) };
    let mut rest = strip;
    for first in (0..inputs.blocks()).step_by(TILES) {
        let tiles = TILES.min(inputs.blocks() - first);
        let (chunk, after) = rest.split_at(form.chunk_bytes(tiles));
        let (scales, quants) = chunk.split_at(form.scales_bytes(tiles));
        for (index, planes) in quants.chunks_exact(form.quants_bytes()).enumerate() {
            fetch(planes);
            for half in 0..2 {
                let tile = HalfTile::of::<KIND>(scales, planes, index, half);
                for (group, sums) in sums.chunks_mut(GROUP).enumerate() {
                    tile.multiply_rows::<KIND>(inputs.block(group, first + index), sums, half);
                }
            }
        }
        rest = after;
    }
}

/// Asks for what comes [`AHEAD`] bytes behind these weights.
#[target_feature(enable = "avx2")]
fn fetch(planes: &[u8]) {
    for line in planes.as_chunks::<LINE>().0 {
        _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().wrapping_add(AHEAD).cast());
    }
}

/// Eight rows of a tile.
struct HalfTile {
    /// The quants; those of eight bits are signed, the others have their zero in the middle of their range.
    lines: [__m256i; 8],
    scales: [__m256; 2],
    minimums: [__m256; 2],
}

impl HalfTile {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn of<const KIND: u8>(scales: &[u8], planes: &[u8], index: usize, half: usize) -> Self {
        let form = const { Form::of(KIND) };
        let none = _mm256_setzero_ps();
        let mut tile = Self { lines: unpack::<KIND>(planes, half), scales: [none; 2], minimums: [none; 2] };
        let excess = _mm256_set1_ps(form.excess());
        for group in 0..form.groups() {
            tile.scales[group] = _mm256_mul_ps(scale::<KIND>(scales, index, 0, group, half), excess);
            if form.minimum {
                tile.minimums[group] = _mm256_mul_ps(scale::<KIND>(scales, index, 1, group, half), excess);
            }
        }
        tile
    }

    /// Adds the products with one block of each row to the sums of the rows.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn multiply_rows<const KIND: u8>(&self, blocks: &[Block], sums: &mut [[f32; ROWS]], half: usize) {
        let (fours, blocks) = blocks.as_chunks::<4>();
        let (four_sums, sums) = sums.as_chunks_mut::<4>();
        for (blocks, sums) in fours.iter().zip(four_sums) {
            self.multiply::<KIND, 4>(blocks, sums, half);
        }
        let (ones, one_sums) = (blocks.as_chunks::<1>().0, sums.as_chunks_mut::<1>().0);
        for (blocks, sums) in ones.iter().zip(one_sums) {
            self.multiply::<KIND, 1>(blocks, sums, half);
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn multiply<const KIND: u8, const N: usize>(&self, blocks: &[Block; N], sums: &mut [[f32; ROWS]; N], half: usize) {
        let form = const { Form::of(KIND) };
        let mut products = self.dots::<KIND, N>(blocks, 0);
        for product in &mut products {
            *product = _mm256_mul_ps(self.scales[0], *product);
        }
        if form.halves {
            let dots = self.dots::<KIND, N>(blocks, 1);
            for row in 0..N {
                products[row] = _mm256_fmadd_ps(self.scales[1], dots[row], products[row]);
            }
        }
        // Counted: to move vectors out of an array one by one, as a loop over the array does, costs as much as the products.
        for row in 0..N {
            let product = self.add_minimums::<KIND>(products[row], &blocks[row]);
            let sums = &mut sums[row].as_chunks_mut::<HALF>().0[half];
            // SAFETY: eight floats.
            unsafe {
                let scale = _mm256_set1_ps(blocks[row].scale);
                let sum = _mm256_fmadd_ps(scale, product, _mm256_loadu_ps(sums.as_ptr()));
                _mm256_storeu_ps(sums.as_mut_ptr(), sum);
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn add_minimums<const KIND: u8>(&self, mut product: __m256, block: &Block) -> __m256 {
        let form = const { Form::of(KIND) };
        if form.minimum && form.halves {
            for group in 0..2 {
                product = _mm256_fmadd_ps(self.minimums[group], _mm256_set1_ps(block.half_sums[group]), product);
            }
        } else if form.minimum {
            product = _mm256_fmadd_ps(self.minimums[0], _mm256_set1_ps(block.sum), product);
        }
        product
    }

    /// Dot products of the columns with one scale, row after row.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn dots<const KIND: u8, const N: usize>(&self, blocks: &[Block; N], group: usize) -> [__m256; N] {
        let form = const { Form::of(KIND) };
        let lines = 8 / form.groups();
        // How many lines fit into 16 bits: their sum is at most twice 127 * (2^bits - 1) each.
        let together = match form.bits {
            8 => 1,
            6 => 2,
            5 => 4,
            _ => lines,
        };
        let mut dots = [_mm256_setzero_si256(); N];
        for first in (group * lines..(group + 1) * lines).step_by(together) {
            let mut pairs = self.pairs::<KIND, N>(blocks, first);
            for line in first + 1..first + together {
                let more = self.pairs::<KIND, N>(blocks, line);
                for row in 0..N {
                    pairs[row] = _mm256_add_epi16(pairs[row], more[row]);
                }
            }
            for row in 0..N {
                dots[row] = _mm256_add_epi32(dots[row], _mm256_madd_epi16(pairs[row], _mm256_set1_epi16(1)));
            }
        }
        let mut floats = [_mm256_setzero_ps(); N];
        for row in 0..N {
            floats[row] = _mm256_cvtepi32_ps(with_offset::<KIND>(dots[row], &blocks[row], group));
        }
        floats
    }

    /// Sums of two products each of the bytes of a line.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn pairs<const KIND: u8, const N: usize>(&self, blocks: &[Block; N], line: usize) -> [__m256i; N] {
        let mut pairs = [_mm256_setzero_si256(); N];
        let weights = self.lines[line];
        for (pairs, block) in pairs.iter_mut().zip(blocks) {
            let (inputs, _) = block.quants.as_chunks::<4>();
            let inputs = _mm256_set1_epi32(i32::from_ne_bytes(inputs[line].map(i8::cast_unsigned)));
            *pairs = if const { Form::of(KIND).bits } == 8 {
                // The weights' signs go to the inputs, which are never -128.
                _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(inputs, weights))
            } else {
                _mm256_maddubs_epi16(weights, inputs)
            };
        }
        pairs
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn with_offset<const KIND: u8>(dot: __m256i, block: &Block, group: usize) -> __m256i {
    let form = const { Form::of(KIND) };
    if form.minimum || form.bits == 8 {
        return dot;
    }
    let offset = _mm256_set1_epi32(if form.halves { block.half_offsets[group] } else { block.offset });
    let offset = match form.bits {
        6 => _mm256_srai_epi32::<2>(offset),
        5 => _mm256_srai_epi32::<3>(offset),
        4 => _mm256_srai_epi32::<4>(offset),
        _ => _mm256_srai_epi32::<5>(offset),
    };
    _mm256_add_epi32(dot, offset)
}

/// Half of each line of a tile.
#[inline]
#[target_feature(enable = "avx2")]
fn unpack<const KIND: u8>(planes: &[u8], half: usize) -> [__m256i; 8] {
    let (planes, _) = planes.as_chunks::<LINE>();
    let mut lines = [_mm256_setzero_si256(); 8];
    for (index, line) in lines.iter_mut().enumerate() {
        *line = match const { Form::of(KIND).bits } {
            8 => _mm256_xor_si256(load(&planes[index], half), _mm256_set1_epi8(-128)),
            6 => _mm256_or_si256(four::<2>(planes, index, half), two::<0>(&planes[4..], index, half)),
            5 => _mm256_or_si256(four::<1>(planes, index, half), one(&planes[4..], index, half)),
            4 => four::<0>(planes, index, half),
            3 => _mm256_or_si256(two::<1>(planes, index, half), one(&planes[2..], index, half)),
            _ => two::<0>(planes, index, half),
        };
    }
    lines
}

/// Line `line` of a plane of four bits, at bit `AT` of bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn four<const AT: i32>(planes: &[[u8; LINE]], line: usize, half: usize) -> __m256i {
    let plane = load(&planes[line % 4], half);
    _mm256_and_si256(moved(plane, AT - 4 * (line / 4) as i32), _mm256_set1_epi8((15u8 << AT).cast_signed()))
}

/// Line `line` of a plane of two bits, at bit `AT` of bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn two<const AT: i32>(planes: &[[u8; LINE]], line: usize, half: usize) -> __m256i {
    let plane = load(&planes[line / 4], half);
    _mm256_and_si256(moved(plane, AT - 2 * (line % 4) as i32), _mm256_set1_epi8(3 << AT))
}

/// Line `line` of a plane of one bit, at the bottom of bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn one(planes: &[[u8; LINE]], line: usize, half: usize) -> __m256i {
    _mm256_and_si256(moved(load(&planes[0], half), -(line as i32)), _mm256_set1_epi8(1))
}

/// Bits moved up, or down where `by` is negative; those that come from a neighbour byte are to be masked.
#[inline]
#[target_feature(enable = "avx2")]
fn moved(bits: __m256i, by: i32) -> __m256i {
    match by {
        2 => _mm256_slli_epi16::<2>(bits),
        1 => _mm256_slli_epi16::<1>(bits),
        -1 => _mm256_srli_epi16::<1>(bits),
        -2 => _mm256_srli_epi16::<2>(bits),
        -3 => _mm256_srli_epi16::<3>(bits),
        -4 => _mm256_srli_epi16::<4>(bits),
        -5 => _mm256_srli_epi16::<5>(bits),
        -6 => _mm256_srli_epi16::<6>(bits),
        -7 => _mm256_srli_epi16::<7>(bits),
        _ => bits,
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(line: &[u8; LINE], half: usize) -> __m256i {
    let bytes = &line[half * LINE / 2..][..LINE / 2];
    // SAFETY: 32 bytes.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// As [`crate::unpack::scale`], for eight rows.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn scale<const KIND: u8>(scales: &[u8], tile: usize, part: usize, group: usize, half: usize) -> __m256 {
    let form = const { Form::of(KIND) };
    let start = form.scales_start() + tile * form.scales_step();
    let place = (part * form.groups() + group) * ROWS + half * HALF;
    if !form.factors {
        return halves(&scales[start + 2 * place..]);
    }
    let factors: &[u8] = &scales[start + place..][..HALF];
    // SAFETY: eight bytes.
    let factors = _mm256_cvtepi8_epi32(unsafe { _mm_loadl_epi64(factors.as_ptr().cast::<__m128i>()) });
    _mm256_mul_ps(halves(&scales[2 * (part * ROWS + half * HALF)..]), _mm256_cvtepi32_ps(factors))
}

/// Eight f16 as f32.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn halves(bytes: &[u8]) -> __m256 {
    let bytes = &bytes[..2 * HALF];
    // SAFETY: 16 bytes.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

/// Adds the products of a strip of floats with rows of inputs to `sums`, one for each row of inputs.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn multiply_floats(kind: Kind, strip: &[u8], inputs: &[f32], sums: &mut [[f32; ROWS]]) {
    match kind {
        Kind::F32 => floats::<{ Kind::F32 as u8 }>(strip, inputs, sums),
        Kind::F16 => floats::<{ Kind::F16 as u8 }>(strip, inputs, sums),
        Kind::BF16 => floats::<{ Kind::BF16 as u8 }>(strip, inputs, sums),
        kind => unreachable!("{kind:?} is quantised"),
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn floats<const KIND: u8>(strip: &[u8], mut inputs: &[f32], sums: &mut [[f32; ROWS]]) {
    let columns = inputs.len() / sums.len();
    let (many, sums) = sums.as_chunks_mut::<4>();
    for sums in many {
        let (these, others) = inputs.split_at(4 * columns);
        floats_with::<KIND, 4>(strip, these, sums);
        inputs = others;
    }
    for (inputs, sums) in inputs.chunks_exact(columns).zip(sums.as_chunks_mut::<1>().0) {
        floats_with::<KIND, 1>(strip, inputs, sums);
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn floats_with<const KIND: u8, const N: usize>(strip: &[u8], inputs: &[f32], sums: &mut [[f32; ROWS]; N]) {
    let columns = inputs.len() / N;
    let size = if KIND == Kind::F32 as u8 { 4 } else { 2 };
    assert_eq!(strip.len(), columns * ROWS * size);
    let mut all = [[_mm256_setzero_ps(); 2]; N];
    for (column, weights) in strip.chunks_exact(ROWS * size).enumerate() {
        _mm_prefetch::<_MM_HINT_T0>(weights.as_ptr().wrapping_add(AHEAD).cast());
        let weights = [eight::<KIND>(weights), eight::<KIND>(&weights[HALF * size..])];
        for (row, sums) in all.iter_mut().enumerate() {
            // SAFETY: `inputs` has N rows of `columns` numbers.
            let input = _mm256_set1_ps(unsafe { *inputs.get_unchecked(row * columns + column) });
            for (sum, weights) in sums.iter_mut().zip(weights) {
                *sum = _mm256_fmadd_ps(weights, input, *sum);
            }
        }
    }
    for (sums, all) in sums.iter_mut().zip(all) {
        for (sums, all) in sums.as_chunks_mut::<HALF>().0.iter_mut().zip(all) {
            // SAFETY: eight floats.
            unsafe { _mm256_storeu_ps(sums.as_mut_ptr(), all) };
        }
    }
}

/// Eight floats as f32.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn eight<const KIND: u8>(weights: &[u8]) -> __m256 {
    if KIND == Kind::F16 as u8 {
        return halves(weights);
    }
    if KIND == Kind::F32 as u8 {
        let weights: &[u8] = &weights[..4 * HALF];
        // SAFETY: 32 bytes.
        return unsafe { _mm256_loadu_ps(weights.as_ptr().cast()) };
    }
    let weights: &[u8] = &weights[..2 * HALF];
    // SAFETY: 16 bytes.
    let upper = _mm256_cvtepu16_epi32(unsafe { _mm_loadu_si128(weights.as_ptr().cast()) });
    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(upper))
}
