//! Products with 256-bit vectors: a 32-bit lane per row of half a strip, eight rows.
//!
//! `vpmaddubsw` adds pairs of byte products to 16-bit sums, which saturate. So here quants are unpacked to the bottom of bytes,
//! as many pairs are added as 16 bits hold, and scales and minimums are multiplied by the layout's quant factor instead of
//! the quants. It is a power of two, so the outputs have the same bits as those of the other kernels.

use std::arch::x86_64::{
    __m128i, __m256, __m256i, _MM_HINT_T0, _mm_loadl_epi64, _mm_loadu_si128, _mm_prefetch, _mm256_abs_epi8,
    _mm256_add_epi16, _mm256_add_epi32, _mm256_and_si256, _mm256_castsi256_ps, _mm256_cvtepi8_epi32,
    _mm256_cvtepi32_ps, _mm256_cvtepu16_epi32, _mm256_cvtph_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256,
    _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_or_si256, _mm256_set1_epi8, _mm256_set1_epi16,
    _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps, _mm256_setzero_si256, _mm256_sign_epi8, _mm256_slli_epi16,
    _mm256_slli_epi32, _mm256_srai_epi32, _mm256_srli_epi16, _mm256_storeu_ps, _mm256_xor_si256,
};

use crate::{
    input_rows::{GROUP_ROWS, InputBlock, QuantizedRows},
    layout::{LINE, PackedLayout, ROWS, TILES, for_weight_type},
    weight_type::WeightType,
};

/// Distance in bytes at which weights are prefetched. A hardware prefetcher stops at the end of a 4 KiB page.
const PREFETCH_BYTES: usize = 4096;
/// Rows of half a strip: the lanes of a vector.
const HALF: usize = ROWS / 2;

/// Adds the products of a strip with rows of inputs to `sums`, which has one element per row of inputs.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn multiply_quants(weight_type: WeightType, strip: &[u8], inputs: QuantizedRows, sums: &mut [[f32; ROWS]]) {
    for_weight_type!(weight_type, multiply_type(strip, inputs, sums));
}

#[target_feature(enable = "avx2,fma,f16c")]
fn multiply_type<const TYPE: u8>(strip: &[u8], inputs: QuantizedRows, sums: &mut [[f32; ROWS]]) {
    let layout = const { PackedLayout::of(TYPE) };
    let mut rest = strip;
    for first in (0..inputs.blocks()).step_by(TILES) {
        let tiles = TILES.min(inputs.blocks() - first);
        let (chunk, after) = rest.split_at(layout.chunk_bytes(tiles));
        let (scales, quants) = chunk.split_at(layout.scales_bytes(tiles));
        for (index, planes) in quants.chunks_exact(layout.tile_quants_bytes()).enumerate() {
            prefetch(planes);
            for half in 0..2 {
                let tile = HalfTile::unpack::<TYPE>(scales, planes, index, half);
                for (group, sums) in sums.chunks_mut(GROUP_ROWS).enumerate() {
                    tile.multiply_rows::<TYPE>(inputs.block(group, first + index), sums, half);
                }
            }
        }
        rest = after;
    }
}

/// Prefetches the weights that are [`PREFETCH_BYTES`] behind these.
#[target_feature(enable = "avx2")]
fn prefetch(planes: &[u8]) {
    for line in planes.as_chunks::<LINE>().0 {
        _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().wrapping_add(PREFETCH_BYTES).cast());
    }
}

/// An unpacked tile of weights, eight of its rows.
struct HalfTile {
    /// Quants: signed for eight bits; unsigned for fewer bits, with their zero in the middle of the range.
    lines: [__m256i; 8],
    /// Scales of each column group, times the layout's quant factor.
    scales: [__m256; 2],
    /// Minimums of each column group, times the layout's quant factor; zero if there are none.
    minimums: [__m256; 2],
}

impl HalfTile {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn unpack<const TYPE: u8>(scales: &[u8], planes: &[u8], index: usize, half: usize) -> Self {
        let layout = const { PackedLayout::of(TYPE) };
        let none = _mm256_setzero_ps();
        let mut tile = Self { lines: unpack::<TYPE>(planes, half), scales: [none; 2], minimums: [none; 2] };
        let quant_factor = _mm256_set1_ps(layout.quant_factor());
        for group in 0..layout.groups() {
            tile.scales[group] = _mm256_mul_ps(scale::<TYPE>(scales, index, 0, group, half), quant_factor);
            if layout.has_minimum {
                tile.minimums[group] = _mm256_mul_ps(scale::<TYPE>(scales, index, 1, group, half), quant_factor);
            }
        }
        tile
    }

    /// Adds the products with one block of each row of a group to the sums of the rows.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn multiply_rows<const TYPE: u8>(&self, blocks: &[InputBlock], sums: &mut [[f32; ROWS]], half: usize) {
        let (fours, blocks) = blocks.as_chunks::<4>();
        let (four_sums, sums) = sums.as_chunks_mut::<4>();
        for (blocks, sums) in fours.iter().zip(four_sums) {
            self.multiply::<TYPE, 4>(blocks, sums, half);
        }
        let (ones, one_sums) = (blocks.as_chunks::<1>().0, sums.as_chunks_mut::<1>().0);
        for (blocks, sums) in ones.iter().zip(one_sums) {
            self.multiply::<TYPE, 1>(blocks, sums, half);
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn multiply<const TYPE: u8, const N: usize>(
        &self,
        blocks: &[InputBlock; N],
        sums: &mut [[f32; ROWS]; N],
        half: usize,
    ) {
        let layout = const { PackedLayout::of(TYPE) };
        let mut products = self.dots::<TYPE, N>(blocks, 0);
        for product in &mut products {
            *product = _mm256_mul_ps(self.scales[0], *product);
        }
        if layout.two_groups {
            let dots = self.dots::<TYPE, N>(blocks, 1);
            for row in 0..N {
                products[row] = _mm256_fmadd_ps(self.scales[1], dots[row], products[row]);
            }
        }
        // A loop with an index: iterating over the array by value moved the vectors through memory, which cost as much as
        // the products.
        for row in 0..N {
            let product = self.add_minimums::<TYPE>(products[row], &blocks[row]);
            let sums = &mut sums[row].as_chunks_mut::<HALF>().0[half];
            // SAFETY: `sums` has eight floats.
            unsafe {
                let scale = _mm256_set1_ps(blocks[row].scale);
                let sum = _mm256_fmadd_ps(scale, product, _mm256_loadu_ps(sums.as_ptr()));
                _mm256_storeu_ps(sums.as_mut_ptr(), sum);
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn add_minimums<const TYPE: u8>(&self, mut product: __m256, block: &InputBlock) -> __m256 {
        let layout = const { PackedLayout::of(TYPE) };
        if layout.has_minimum && layout.two_groups {
            for group in 0..2 {
                product = _mm256_fmadd_ps(self.minimums[group], _mm256_set1_ps(block.half_sums[group]), product);
            }
        } else if layout.has_minimum {
            product = _mm256_fmadd_ps(self.minimums[0], _mm256_set1_ps(block.sum), product);
        }
        product
    }

    /// Dot products of the columns of one group with `N` rows of inputs.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn dots<const TYPE: u8, const N: usize>(&self, blocks: &[InputBlock; N], group: usize) -> [__m256; N] {
        let layout = const { PackedLayout::of(TYPE) };
        let lines = 8 / layout.groups();
        // Number of lines whose sums fit into 16 bits: each adds at most 2 * 127 * (2^bits - 1).
        let together = match layout.bits {
            8 => 1,
            6 => 2,
            5 => 4,
            _ => lines,
        };
        let mut dots = [_mm256_setzero_si256(); N];
        for first in (group * lines..(group + 1) * lines).step_by(together) {
            let mut pairs = self.pairs::<TYPE, N>(blocks, first);
            for line in first + 1..first + together {
                let more = self.pairs::<TYPE, N>(blocks, line);
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
            floats[row] = _mm256_cvtepi32_ps(with_offset::<TYPE>(dots[row], &blocks[row], group));
        }
        floats
    }

    /// Sums of pairs of products of the bytes of a line, in 16 bits.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn pairs<const TYPE: u8, const N: usize>(&self, blocks: &[InputBlock; N], line: usize) -> [__m256i; N] {
        let mut pairs = [_mm256_setzero_si256(); N];
        let weights = self.lines[line];
        for (pairs, block) in pairs.iter_mut().zip(blocks) {
            let (inputs, _) = block.quants.as_chunks::<4>();
            let inputs = _mm256_set1_epi32(i32::from_ne_bytes(inputs[line].map(i8::cast_unsigned)));
            *pairs = if const { PackedLayout::of(TYPE).bits } == 8 {
                // The first operand is unsigned, so the weights' signs are moved to the inputs, which are never -128.
                _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(inputs, weights))
            } else {
                _mm256_maddubs_epi16(weights, inputs)
            };
        }
        pairs
    }
}

/// Adds the correction for the zero of types without minimums. The offset is meant for quants at the top of bytes, so it is
/// shifted down as the quants are.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn with_offset<const TYPE: u8>(dot: __m256i, block: &InputBlock, group: usize) -> __m256i {
    let layout = const { PackedLayout::of(TYPE) };
    if layout.has_minimum || layout.bits == 8 {
        return dot;
    }
    let offset = _mm256_set1_epi32(if layout.two_groups { block.half_offsets[group] } else { block.offset });
    let offset = match layout.bits {
        6 => _mm256_srai_epi32::<2>(offset),
        5 => _mm256_srai_epi32::<3>(offset),
        4 => _mm256_srai_epi32::<4>(offset),
        _ => _mm256_srai_epi32::<5>(offset),
    };
    _mm256_add_epi32(dot, offset)
}

/// Unpacks half of each line of a tile, quants at the bottom of bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn unpack<const TYPE: u8>(planes: &[u8], half: usize) -> [__m256i; 8] {
    let (planes, _) = planes.as_chunks::<LINE>();
    let mut lines = [_mm256_setzero_si256(); 8];
    for (index, line) in lines.iter_mut().enumerate() {
        *line = match const { PackedLayout::of(TYPE).bits } {
            8 => _mm256_xor_si256(load(&planes[index], half), _mm256_set1_epi8(-128)),
            6 => _mm256_or_si256(
                from_4_bit_plane::<2>(planes, index, half),
                from_2_bit_plane::<0>(&planes[4..], index, half),
            ),
            5 => {
                _mm256_or_si256(from_4_bit_plane::<1>(planes, index, half), from_1_bit_plane(&planes[4..], index, half))
            }
            4 => from_4_bit_plane::<0>(planes, index, half),
            3 => {
                _mm256_or_si256(from_2_bit_plane::<1>(planes, index, half), from_1_bit_plane(&planes[2..], index, half))
            }
            _ => from_2_bit_plane::<0>(planes, index, half),
        };
    }
    lines
}

/// Line `line` from a plane of four bits, moved to bit `AT` of bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn from_4_bit_plane<const AT: i32>(planes: &[[u8; LINE]], line: usize, half: usize) -> __m256i {
    let plane = load(&planes[line % 4], half);
    _mm256_and_si256(shifted(plane, AT - 4 * (line / 4) as i32), _mm256_set1_epi8((15u8 << AT).cast_signed()))
}

/// Line `line` from a plane of two bits, moved to bit `AT` of bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn from_2_bit_plane<const AT: i32>(planes: &[[u8; LINE]], line: usize, half: usize) -> __m256i {
    let plane = load(&planes[line / 4], half);
    _mm256_and_si256(shifted(plane, AT - 2 * (line % 4) as i32), _mm256_set1_epi8(3 << AT))
}

/// Line `line` from a plane of one bit, moved to the bottom of bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn from_1_bit_plane(planes: &[[u8; LINE]], line: usize, half: usize) -> __m256i {
    _mm256_and_si256(shifted(load(&planes[0], half), -(line as i32)), _mm256_set1_epi8(1))
}

/// Shifts bits up, or down if `by` is negative. There is no shift of bytes: the caller masks bits that come from the
/// neighboring byte. `by` is a constant after inlining.
#[inline]
#[target_feature(enable = "avx2")]
fn shifted(bits: __m256i, by: i32) -> __m256i {
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
    // SAFETY: `bytes` has 32 bytes.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// Scales of eight rows, see [`crate::unpack::scale`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn scale<const TYPE: u8>(scales: &[u8], tile: usize, part: usize, group: usize, half: usize) -> __m256 {
    let layout = const { PackedLayout::of(TYPE) };
    let start = layout.tile_scales_offset() + tile * layout.tile_scales_bytes();
    let at = (part * layout.groups() + group) * ROWS + half * HALF;
    if !layout.has_factors {
        return load_f16(&scales[start + 2 * at..]);
    }
    let factors: &[u8] = &scales[start + at..][..HALF];
    // SAFETY: `factors` has eight bytes.
    let factors = _mm256_cvtepi8_epi32(unsafe { _mm_loadl_epi64(factors.as_ptr().cast::<__m128i>()) });
    _mm256_mul_ps(load_f16(&scales[2 * (part * ROWS + half * HALF)..]), _mm256_cvtepi32_ps(factors))
}

/// Loads eight `f16` as `f32`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn load_f16(bytes: &[u8]) -> __m256 {
    let bytes = &bytes[..2 * HALF];
    // SAFETY: `bytes` has 16 bytes.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

/// Adds the products of a strip of float weights with rows of inputs to `sums`, which has one element per row of inputs.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn multiply_floats(weight_type: WeightType, strip: &[u8], inputs: &[f32], sums: &mut [[f32; ROWS]]) {
    match weight_type {
        WeightType::F32 => floats::<{ WeightType::F32 as u8 }>(strip, inputs, sums),
        WeightType::F16 => floats::<{ WeightType::F16 as u8 }>(strip, inputs, sums),
        WeightType::BF16 => floats::<{ WeightType::BF16 as u8 }>(strip, inputs, sums),
        weight_type => unreachable!("{weight_type:?} is quantized"),
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn floats<const TYPE: u8>(strip: &[u8], mut inputs: &[f32], sums: &mut [[f32; ROWS]]) {
    let columns = inputs.len() / sums.len();
    let (many, sums) = sums.as_chunks_mut::<4>();
    for sums in many {
        let (these, others) = inputs.split_at(4 * columns);
        floats_with::<TYPE, 4>(strip, these, sums);
        inputs = others;
    }
    for (inputs, sums) in inputs.chunks_exact(columns).zip(sums.as_chunks_mut::<1>().0) {
        floats_with::<TYPE, 1>(strip, inputs, sums);
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn floats_with<const TYPE: u8, const N: usize>(strip: &[u8], inputs: &[f32], sums: &mut [[f32; ROWS]; N]) {
    let columns = inputs.len() / N;
    let size = if TYPE == WeightType::F32 as u8 { 4 } else { 2 };
    assert_eq!(strip.len(), columns * ROWS * size);
    let mut totals = [[_mm256_setzero_ps(); 2]; N];
    for (column, weights) in strip.chunks_exact(ROWS * size).enumerate() {
        _mm_prefetch::<_MM_HINT_T0>(weights.as_ptr().wrapping_add(PREFETCH_BYTES).cast());
        let weights = [load_floats::<TYPE>(weights), load_floats::<TYPE>(&weights[HALF * size..])];
        for (row, sums) in totals.iter_mut().enumerate() {
            // SAFETY: `inputs` has `N` rows of `columns` numbers.
            let input = _mm256_set1_ps(unsafe { *inputs.get_unchecked(row * columns + column) });
            for (sum, weights) in sums.iter_mut().zip(weights) {
                *sum = _mm256_fmadd_ps(weights, input, *sum);
            }
        }
    }
    for (sums, totals) in sums.iter_mut().zip(totals) {
        for (sums, totals) in sums.as_chunks_mut::<HALF>().0.iter_mut().zip(totals) {
            // SAFETY: `sums` has eight floats.
            unsafe { _mm256_storeu_ps(sums.as_mut_ptr(), totals) };
        }
    }
}

/// Loads eight float weights as `f32`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn load_floats<const TYPE: u8>(weights: &[u8]) -> __m256 {
    if TYPE == WeightType::F16 as u8 {
        return load_f16(weights);
    }
    if TYPE == WeightType::F32 as u8 {
        let weights: &[u8] = &weights[..4 * HALF];
        // SAFETY: `weights` has 32 bytes.
        return unsafe { _mm256_loadu_ps(weights.as_ptr().cast()) };
    }
    let weights: &[u8] = &weights[..2 * HALF];
    // SAFETY: `weights` has 16 bytes. A bf16 is the upper half of an f32.
    let upper = _mm256_cvtepu16_epi32(unsafe { _mm_loadu_si128(weights.as_ptr().cast()) });
    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(upper))
}
