//! Products with 512-bit vectors: a 32-bit lane per row of a strip.
//!
//! `vpdpbusd` (VNNI) multiplies four unsigned bytes of weights per lane with four signed bytes of inputs and adds the products
//! to the lane, without saturation in between. So a line of a tile and four columns of one row of inputs, broadcast to all
//! lanes, take one instruction.

use std::arch::x86_64::{
    __m256i, __m512, __m512i, _MM_HINT_T0, _mm_loadu_si128, _mm_prefetch, _mm256_loadu_si256, _mm512_and_si512,
    _mm512_castsi512_ps, _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps, _mm512_cvtepu16_epi32, _mm512_cvtph_ps,
    _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mul_ps, _mm512_set1_epi8,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_slli_epi16, _mm512_slli_epi32,
    _mm512_srli_epi16, _mm512_storeu_ps, _mm512_ternarylogic_epi32,
};

use crate::{
    input_rows::{GROUP_ROWS, InputBlock, QuantizedRows},
    layout::{LINE, PackedLayout, ROWS, TILES, for_weight_type},
    weight_type::WeightType,
};

/// Distance in bytes at which weights are prefetched. A hardware prefetcher stops at the end of a 4 KiB page.
const PREFETCH_BYTES: usize = 4096;

/// Adds the products of a strip with rows of inputs to `sums`, which has one element per row of inputs.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(crate) fn multiply_quants(weight_type: WeightType, strip: &[u8], inputs: QuantizedRows, sums: &mut [[f32; ROWS]]) {
    for_weight_type!(weight_type, multiply_type(strip, inputs, sums));
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn multiply_type<const TYPE: u8>(strip: &[u8], inputs: QuantizedRows, sums: &mut [[f32; ROWS]]) {
    let layout = const { PackedLayout::of(TYPE) };
    let mut rest = strip;
    for first in (0..inputs.blocks()).step_by(TILES) {
        let tiles = TILES.min(inputs.blocks() - first);
        let (chunk, after) = rest.split_at(layout.chunk_bytes(tiles));
        let (scales, quants) = chunk.split_at(layout.scales_bytes(tiles));
        let chunk_scales = ChunkScales::load::<TYPE>(scales);
        for (index, planes) in quants.chunks_exact(layout.tile_quants_bytes()).enumerate() {
            prefetch(planes);
            let tile = Tile::unpack::<TYPE>(
                &chunk_scales,
                &scales[layout.tile_scales_offset() + index * layout.tile_scales_bytes()..],
                planes,
            );
            for (group, sums) in sums.chunks_mut(GROUP_ROWS).enumerate() {
                tile.multiply_rows::<TYPE>(inputs.block(group, first + index), sums);
            }
        }
        rest = after;
    }
}

/// Prefetches the weights that are [`PREFETCH_BYTES`] behind these.
#[target_feature(enable = "avx512f")]
pub(super) fn prefetch(planes: &[u8]) {
    for line in planes.as_chunks::<LINE>().0 {
        _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().wrapping_add(PREFETCH_BYTES).cast());
    }
}

/// Scale and minimum of a whole chunk, for types with factors; zero for others.
pub(super) struct ChunkScales {
    scale: __m512,
    minimum: __m512,
}

impl ChunkScales {
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn load<const TYPE: u8>(scales: &[u8]) -> Self {
        let layout = const { PackedLayout::of(TYPE) };
        let none = _mm512_setzero_ps();
        Self {
            scale: if layout.has_factors { load_f16(scales, 0) } else { none },
            minimum: if layout.has_factors && layout.has_minimum {
                _mm512_mul_ps(load_f16(scales, 2 * ROWS), _mm512_set1_ps(layout.quant_factor()))
            } else {
                none
            },
        }
    }
}

/// An unpacked tile of weights.
pub(super) struct Tile {
    /// Quants as unsigned bytes, at the top of each.
    pub(super) lines: [__m512i; 8],
    /// Scales of each column group.
    pub(super) scales: [__m512; 2],
    /// Minimums of each column group, times the layout's quant factor; zero if there are none.
    pub(super) minimums: [__m512; 2],
}

impl Tile {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    pub(super) fn unpack<const TYPE: u8>(chunk_scales: &ChunkScales, scales: &[u8], planes: &[u8]) -> Self {
        let layout = const { PackedLayout::of(TYPE) };
        let none = _mm512_setzero_ps();
        let mut tile = Self { lines: unpack::<TYPE>(planes), scales: [none; 2], minimums: [none; 2] };
        for group in 0..layout.groups() {
            let index = layout.groups() + group;
            if layout.has_factors {
                tile.scales[group] = _mm512_mul_ps(chunk_scales.scale, load_i8(scales, group * ROWS));
                if layout.has_minimum {
                    tile.minimums[group] = _mm512_mul_ps(chunk_scales.minimum, load_i8(scales, index * ROWS));
                }
            } else {
                tile.scales[group] = load_f16(scales, 2 * group * ROWS);
                if layout.has_minimum {
                    let quant_factor = _mm512_set1_ps(layout.quant_factor());
                    tile.minimums[group] = _mm512_mul_ps(load_f16(scales, 2 * index * ROWS), quant_factor);
                }
            }
        }
        tile
    }

    /// Adds the products with one block of each row of a group to the sums of the rows.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn multiply_rows<const TYPE: u8>(&self, blocks: &[InputBlock], sums: &mut [[f32; ROWS]]) {
        let (eights, blocks) = blocks.as_chunks::<8>();
        let (eight_sums, sums) = sums.as_chunks_mut::<8>();
        for (blocks, sums) in eights.iter().zip(eight_sums) {
            self.multiply::<TYPE, 8>(blocks, sums);
        }
        let (fours, blocks) = blocks.as_chunks::<4>();
        let (four_sums, sums) = sums.as_chunks_mut::<4>();
        for (blocks, sums) in fours.iter().zip(four_sums) {
            self.multiply::<TYPE, 4>(blocks, sums);
        }
        let (ones, one_sums) = (blocks.as_chunks::<1>().0, sums.as_chunks_mut::<1>().0);
        for (blocks, sums) in ones.iter().zip(one_sums) {
            self.multiply::<TYPE, 1>(blocks, sums);
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn multiply<const TYPE: u8, const N: usize>(&self, blocks: &[InputBlock; N], sums: &mut [[f32; ROWS]; N]) {
        let layout = const { PackedLayout::of(TYPE) };
        let dots = self.dots::<TYPE, N>(blocks, 0);
        let mut products = [_mm512_setzero_ps(); N];
        for row in 0..N {
            products[row] = _mm512_mul_ps(self.scales[0], dots[row]);
        }
        if layout.two_groups {
            let dots = self.dots::<TYPE, N>(blocks, 1);
            for row in 0..N {
                products[row] = _mm512_fmadd_ps(self.scales[1], dots[row], products[row]);
            }
        }
        for row in 0..N {
            let block = &blocks[row];
            if layout.has_minimum && layout.two_groups {
                products[row] = _mm512_fmadd_ps(self.minimums[0], _mm512_set1_ps(block.half_sums[0]), products[row]);
                products[row] = _mm512_fmadd_ps(self.minimums[1], _mm512_set1_ps(block.half_sums[1]), products[row]);
            } else if layout.has_minimum {
                products[row] = _mm512_fmadd_ps(self.minimums[0], _mm512_set1_ps(block.sum), products[row]);
            }
            // SAFETY: `sums` has sixteen floats.
            unsafe {
                let sum = _mm512_loadu_ps(sums[row].as_ptr());
                let sum = _mm512_fmadd_ps(_mm512_set1_ps(block.scale), products[row], sum);
                _mm512_storeu_ps(sums[row].as_mut_ptr(), sum);
            }
        }
    }

    /// Dot products of the columns of one group with `N` rows of inputs. The inner loop runs over the rows, because the
    /// instructions of one row depend on each other and have a latency of five cycles.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn dots<const TYPE: u8, const N: usize>(&self, blocks: &[InputBlock; N], group: usize) -> [__m512; N] {
        let layout = const { PackedLayout::of(TYPE) };
        let mut dots = [_mm512_setzero_si512(); N];
        if !layout.has_minimum {
            for row in 0..N {
                let offset = if layout.two_groups { blocks[row].half_offsets[group] } else { blocks[row].offset };
                dots[row] = _mm512_set1_epi32(offset);
            }
        }
        let count = 8 / layout.groups();
        for line in group * count..(group + 1) * count {
            for row in 0..N {
                let (inputs, _) = blocks[row].quants.as_chunks::<4>();
                let inputs = i32::from_ne_bytes(inputs[line].map(i8::cast_unsigned));
                dots[row] = _mm512_dpbusd_epi32(dots[row], self.lines[line], _mm512_set1_epi32(inputs));
            }
        }
        let mut floats = [_mm512_setzero_ps(); N];
        for row in 0..N {
            floats[row] = _mm512_cvtepi32_ps(dots[row]);
        }
        floats
    }
}

/// Unpacks the lines of a tile, quants at the top of bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn unpack<const TYPE: u8>(planes: &[u8]) -> [__m512i; 8] {
    let (planes, _) = planes.as_chunks::<LINE>();
    let zero = _mm512_setzero_si512();
    let mut lines = [zero; 8];
    match const { PackedLayout::of(TYPE).bits } {
        8 => (0..8).for_each(|index| lines[index] = load(&planes[index])),
        6 => {
            unpack_4_bit_plane(&planes[..4], &mut lines);
            unpack_2_bit_plane::<4>(&planes[4..], &mut lines);
        }
        5 => {
            unpack_4_bit_plane(&planes[..4], &mut lines);
            unpack_1_bit_plane::<4>(&planes[4], &mut lines);
        }
        4 => unpack_4_bit_plane(planes, &mut lines),
        3 => {
            unpack_2_bit_plane::<0>(&planes[..2], &mut lines);
            unpack_1_bit_plane::<2>(&planes[2], &mut lines);
        }
        _ => unpack_2_bit_plane::<0>(planes, &mut lines),
    }
    lines
}

/// `lines | bits & mask`.
#[inline]
#[target_feature(enable = "avx512f")]
fn or_masked(line: &mut __m512i, bits: __m512i, mask: u8) {
    *line = _mm512_ternarylogic_epi32::<0xf8>(*line, bits, _mm512_set1_epi8(mask.cast_signed()));
}

/// Unpacks a plane of four bits to the top of bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn unpack_4_bit_plane(planes: &[[u8; LINE]], lines: &mut [__m512i; 8]) {
    let mask = _mm512_set1_epi8(0xf0u8.cast_signed());
    for (index, plane) in planes.iter().enumerate() {
        let plane = load(plane);
        lines[index] = _mm512_and_si512(_mm512_slli_epi16::<4>(plane), mask);
        lines[index + 4] = _mm512_and_si512(plane, mask);
    }
}

/// Unpacks a plane of two bits to below the upper `BELOW` bits, which are there already.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn unpack_2_bit_plane<const BELOW: usize>(planes: &[[u8; LINE]], lines: &mut [__m512i; 8]) {
    let mask = 0xc0 >> BELOW;
    for (index, plane) in planes.iter().enumerate() {
        let plane = load(plane);
        for field in 0..4 {
            or_masked(&mut lines[4 * index + field], shifted(plane, 6 - BELOW as i32 - 2 * field as i32), mask);
        }
    }
}

/// Unpacks a plane of one bit to below the upper `BELOW` bits, which are there already.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn unpack_1_bit_plane<const BELOW: usize>(plane: &[u8; LINE], lines: &mut [__m512i; 8]) {
    let plane = load(plane);
    for (field, line) in lines.iter_mut().enumerate() {
        or_masked(line, shifted(plane, 7 - BELOW as i32 - field as i32), 0x80 >> BELOW);
    }
}

/// Shifts bits up, or down if `by` is negative. There is no shift of bytes: the caller masks bits that come from the
/// neighboring byte. `by` is a constant after inlining.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn shifted(bits: __m512i, by: i32) -> __m512i {
    match by {
        7 => _mm512_slli_epi16::<7>(bits),
        6 => _mm512_slli_epi16::<6>(bits),
        5 => _mm512_slli_epi16::<5>(bits),
        4 => _mm512_slli_epi16::<4>(bits),
        3 => _mm512_slli_epi16::<3>(bits),
        2 => _mm512_slli_epi16::<2>(bits),
        1 => _mm512_slli_epi16::<1>(bits),
        -1 => _mm512_srli_epi16::<1>(bits),
        -2 => _mm512_srli_epi16::<2>(bits),
        -3 => _mm512_srli_epi16::<3>(bits),
        -4 => _mm512_srli_epi16::<4>(bits),
        _ => bits,
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(line: &[u8; LINE]) -> __m512i {
    // SAFETY: a line has 64 bytes.
    unsafe { _mm512_loadu_si512(line.as_ptr().cast()) }
}

/// Loads sixteen `f16` from offset `at` as `f32`.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_f16(bytes: &[u8], at: usize) -> __m512 {
    let bytes: &[u8] = &bytes[at..at + 2 * ROWS];
    // SAFETY: `bytes` has 32 bytes.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(bytes.as_ptr().cast::<__m256i>()) })
}

/// Loads sixteen `i8` from offset `at` as `f32`.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_i8(bytes: &[u8], at: usize) -> __m512 {
    let bytes: &[u8] = &bytes[at..at + ROWS];
    // SAFETY: `bytes` has 16 bytes.
    _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }))
}

/// Adds the products of a strip of float weights with rows of inputs to `sums`, which has one element per row of inputs.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(crate) fn multiply_floats(weight_type: WeightType, strip: &[u8], inputs: &[f32], sums: &mut [[f32; ROWS]]) {
    match weight_type {
        WeightType::F32 => floats::<{ WeightType::F32 as u8 }>(strip, inputs, sums),
        WeightType::F16 => floats::<{ WeightType::F16 as u8 }>(strip, inputs, sums),
        WeightType::BF16 => floats::<{ WeightType::BF16 as u8 }>(strip, inputs, sums),
        weight_type => unreachable!("{weight_type:?} is quantized"),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn floats<const TYPE: u8>(strip: &[u8], mut inputs: &[f32], sums: &mut [[f32; ROWS]]) {
    let columns = inputs.len() / sums.len();
    let (many, sums) = sums.as_chunks_mut::<8>();
    for sums in many {
        let (these, others) = inputs.split_at(8 * columns);
        floats_with::<TYPE, 8>(strip, these, sums);
        inputs = others;
    }
    for (inputs, sums) in inputs.chunks_exact(columns).zip(sums.as_chunks_mut::<1>().0) {
        floats_with::<TYPE, 1>(strip, inputs, sums);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn floats_with<const TYPE: u8, const N: usize>(strip: &[u8], inputs: &[f32], sums: &mut [[f32; ROWS]; N]) {
    let columns = inputs.len() / N;
    let size = if TYPE == WeightType::F32 as u8 { 4 } else { 2 };
    assert_eq!(strip.len(), columns * ROWS * size);
    let mut totals = [_mm512_setzero_ps(); N];
    for (column, weights) in strip.chunks_exact(ROWS * size).enumerate() {
        _mm_prefetch::<_MM_HINT_T0>(weights.as_ptr().wrapping_add(PREFETCH_BYTES).cast());
        let weights = load_floats::<TYPE>(weights);
        for (row, sum) in totals.iter_mut().enumerate() {
            // SAFETY: `inputs` has `N` rows of `columns` numbers.
            let input = unsafe { *inputs.get_unchecked(row * columns + column) };
            *sum = _mm512_fmadd_ps(weights, _mm512_set1_ps(input), *sum);
        }
    }
    for (sums, totals) in sums.iter_mut().zip(totals) {
        // SAFETY: `sums` has sixteen floats.
        unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), totals) };
    }
}

/// Loads sixteen float weights as `f32`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn load_floats<const TYPE: u8>(weights: &[u8]) -> __m512 {
    if TYPE == WeightType::F16 as u8 {
        return load_f16(weights, 0);
    }
    if TYPE == WeightType::F32 as u8 {
        let weights: &[u8] = &weights[..4 * ROWS];
        // SAFETY: `weights` has 64 bytes.
        return unsafe { _mm512_loadu_ps(weights.as_ptr().cast()) };
    }
    let weights: &[u8] = &weights[..2 * ROWS];
    // SAFETY: `weights` has 32 bytes. A bf16 is the upper half of an f32.
    let upper = _mm512_cvtepu16_epi32(unsafe { _mm256_loadu_si256(weights.as_ptr().cast()) });
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(upper))
}
