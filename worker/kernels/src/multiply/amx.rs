//! Products with AMX: 16 rows of a strip and up to 16 rows of inputs at once.
//!
//! One AMX instruction computes all dot products of a tile. Most of the time goes into the rest: the sixteen times sixteen
//! integers go through memory to vector registers, where AVX-512 scales and adds them. So the dot products of the next tile
//! are computed while those of the current one are added.
//!
//! The intrinsics for AMX are not stable in Rust, so its instructions are inline assembly.

use std::arch::{
    asm,
    x86_64::{
        __m512, _mm512_cvtepi32_ps, _mm512_fmadd_ps, _mm512_load_si512, _mm512_loadu_ps, _mm512_mul_ps,
        _mm512_set1_epi8, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps, _mm512_storeu_si512, _mm512_xor_si512,
    },
};

use super::avx512::{ChunkScales, Tile, prefetch};
use crate::{
    input_rows::{GROUP_ROWS, InputBlock, QuantizedRows},
    layout::{LINE, PackedLayout, ROWS, TILE_BYTES, TILES, for_weight_type},
    weight_type::WeightType,
};

/// Adds the products of a strip with rows of inputs to `sums`, which has whole groups of rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(crate) fn multiply_quants(weight_type: WeightType, strip: &[u8], inputs: QuantizedRows, sums: &mut [[f32; ROWS]]) {
    for_weight_type!(weight_type, multiply_type(strip, inputs, sums));
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn multiply_type<const TYPE: u8>(strip: &[u8], inputs: QuantizedRows, sums: &mut [[f32; ROWS]]) {
    let layout = const { PackedLayout::of(TYPE) };
    let _tiles = TileRegisters::configure(8 / layout.groups() as u8);
    let mut unpacked = UnpackedChunk::new();
    let mut dots = [DotProducts::new(), DotProducts::new(), DotProducts::new(), DotProducts::new()];
    let mut rest = strip;
    for first in (0..inputs.blocks()).step_by(TILES) {
        let tiles = TILES.min(inputs.blocks() - first);
        let (chunk, after) = rest.split_at(layout.chunk_bytes(tiles));
        unpacked.unpack::<TYPE>(chunk, tiles);
        for (group, sums) in sums.as_chunks_mut::<GROUP_ROWS>().0.iter_mut().enumerate() {
            let (blocks, count) = inputs.chunk(group, first, tiles);
            match sums.first_chunk_mut() {
                Some(sums) if count <= 8 => unpacked.multiply::<TYPE, 8>(blocks, count, tiles, &mut dots, sums),
                _ => unpacked.multiply::<TYPE, GROUP_ROWS>(blocks, count, tiles, &mut dots, sums),
            }
        }
        rest = after;
    }
}

/// Computes `dots = inputs * weights` with the tile registers `c`, `a` and `b` and the given dot product instruction.
macro_rules! tile_product {
    ($instruction:literal, $c:literal, $a:literal, $b:literal, $inputs:ident, $weights:ident, $dots:ident) => {
        asm!(
            concat!("tilezero tmm", $c),
            concat!("tileloadd tmm", $a, ", [{inputs} + {step:r}]"),
            concat!("tileloadd tmm", $b, ", [{weights} + {step:r}]"),
            concat!($instruction, " tmm", $c, ", tmm", $a, ", tmm", $b),
            concat!("tilestored [{dots} + {step:r}], tmm", $c),
            inputs = in(reg) $inputs,
            weights = in(reg) $weights,
            dots = in(reg) $dots,
            step = in(reg) 64,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _,
            options(nostack, preserves_flags),
        )
    };
}

/// A chunk whose quants are unpacked to signed bytes, or to unsigned bytes if the type has minimums.
struct UnpackedChunk {
    lines: [[u8; TILE_BYTES]; TILES],
    scales: [[__m512; 2]; TILES],
    minimums: [[__m512; 2]; TILES],
}

impl UnpackedChunk {
    #[target_feature(enable = "avx512f")]
    fn new() -> Self {
        let none = _mm512_setzero_ps();
        Self { lines: [[0; TILE_BYTES]; TILES], scales: [[none; 2]; TILES], minimums: [[none; 2]; TILES] }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn unpack<const TYPE: u8>(&mut self, chunk: &[u8], tiles: usize) {
        let layout = const { PackedLayout::of(TYPE) };
        let (scales, quants) = chunk.split_at(layout.scales_bytes(tiles));
        let chunk_scales = ChunkScales::load::<TYPE>(scales);
        let sign = _mm512_set1_epi8(if layout.has_minimum { 0 } else { -128 });
        for (index, planes) in quants.chunks_exact(layout.tile_quants_bytes()).enumerate() {
            prefetch(planes);
            let tile = Tile::unpack::<TYPE>(
                &chunk_scales,
                &scales[layout.tile_scales_offset() + index * layout.tile_scales_bytes()..],
                planes,
            );
            for (line, out) in tile.lines.iter().zip(self.lines[index].as_chunks_mut::<LINE>().0) {
                // SAFETY: `out` has 64 bytes.
                unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), _mm512_xor_si512(*line, sign)) };
            }
            self.scales[index] = tile.scales;
            self.minimums[index] = tile.minimums;
        }
    }

    /// Adds the products with `N` rows of inputs to the sums of the rows. `blocks` has `count` rows per block; `dots` is the
    /// memory for two tiles of dot products of two column groups.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn multiply<const TYPE: u8, const N: usize>(
        &self,
        blocks: &[InputBlock],
        count: usize,
        tiles: usize,
        dots: &mut [DotProducts; 4],
        sums: &mut [[f32; ROWS]; N],
    ) {
        let mut totals = [_mm512_setzero_ps(); N];
        for (totals, sums) in totals.iter_mut().zip(sums.iter()) {
            // SAFETY: `sums` has sixteen floats.
            *totals = unsafe { _mm512_loadu_ps(sums.as_ptr()) };
        }
        let rows =
            |tile: usize| blocks[tile * count..].first_chunk::<N>().expect("there are blocks behind the last row");
        // The dot products of the next tile are computed while those of this one are added.
        self.dots::<TYPE, N>(0, rows(0), &mut dots[..2]);
        for tile in 0..tiles {
            let (this, next) = dots.split_at_mut(2);
            let (this, next) = if tile % 2 == 0 { (this, next) } else { (next, this) };
            if tile + 1 < tiles {
                self.dots::<TYPE, N>(tile + 1, rows(tile + 1), next);
            }
            for row in 0..N {
                let product = self.product::<TYPE>(tile, &rows(tile)[row], this, row);
                totals[row] = _mm512_fmadd_ps(_mm512_set1_ps(rows(tile)[row].scale), product, totals[row]);
            }
        }
        for (totals, sums) in totals.iter().zip(sums) {
            // SAFETY: `sums` has sixteen floats.
            unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), *totals) };
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn product<const TYPE: u8>(&self, tile: usize, block: &InputBlock, dots: &[DotProducts], row: usize) -> __m512 {
        let layout = const { PackedLayout::of(TYPE) };
        let mut product = _mm512_mul_ps(self.scales[tile][0], dots[0].row(row));
        if layout.two_groups {
            product = _mm512_fmadd_ps(self.scales[tile][1], dots[1].row(row), product);
        }
        if layout.has_minimum && layout.two_groups {
            product = _mm512_fmadd_ps(self.minimums[tile][0], _mm512_set1_ps(block.half_sums[0]), product);
            product = _mm512_fmadd_ps(self.minimums[tile][1], _mm512_set1_ps(block.half_sums[1]), product);
        } else if layout.has_minimum {
            product = _mm512_fmadd_ps(self.minimums[tile][0], _mm512_set1_ps(block.sum), product);
        }
        product
    }

    /// Computes the dot products of a tile with `N` rows of inputs, for each column group.
    #[inline]
    fn dots<const TYPE: u8, const N: usize>(&self, tile: usize, blocks: &[InputBlock; N], dots: &mut [DotProducts]) {
        let layout = const { PackedLayout::of(TYPE) };
        for (group, dots) in dots.iter_mut().take(layout.groups()).enumerate() {
            let inputs = blocks.as_ptr().cast::<u8>().wrapping_add(16 * group);
            let weights = self.lines[tile][TILE_BYTES / 2 * group..].as_ptr();
            // SAFETY: the tile registers are configured. `inputs` has N rows at a distance of 64 bytes, of which 32 bytes
            // are read, or 16 if there are two groups. `weights` has 8 lines of 64 bytes, or 4. `dots` has N lines.
            unsafe {
                match (layout.has_minimum, N) {
                    (false, 8) => tile_product!("tdpbssd", 3, 4, 2, inputs, weights, dots),
                    (false, _) => tile_product!("tdpbssd", 0, 1, 2, inputs, weights, dots),
                    (true, 8) => tile_product!("tdpbsud", 3, 4, 2, inputs, weights, dots),
                    (true, _) => tile_product!("tdpbsud", 0, 1, 2, inputs, weights, dots),
                }
            }
        }
    }
}

/// Dot products of 16 rows of inputs with the 16 rows of a strip.
#[repr(align(64))]
struct DotProducts([[i32; ROWS]; GROUP_ROWS]);

impl DotProducts {
    fn new() -> Self {
        Self([[0; ROWS]; GROUP_ROWS])
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn row(&self, row: usize) -> __m512 {
        // SAFETY: a row has 64 bytes and is aligned to 64.
        _mm512_cvtepi32_ps(unsafe { _mm512_load_si512(self.0[row].as_ptr().cast()) })
    }
}

/// Guard for the configured tile registers of this thread. While they are configured, Linux saves 8 KiB more with each
/// context switch.
struct TileRegisters;

impl TileRegisters {
    /// Configures the registers: 0 and 3 for dot products of 16 and of 8 rows of inputs, 1 and 4 for these rows, 2 for `lines`
    /// lines of weights.
    fn configure(lines: u8) -> Self {
        let mut config = TileConfig { palette: 1, ..TileConfig::default() };
        let columns = 4 * u16::from(lines);
        let shapes = [(16, 64), (16, columns), (lines, 64), (8, 64), (8, columns)];
        for (register, (rows, bytes)) in shapes.into_iter().enumerate() {
            config.rows[register] = rows;
            config.bytes[register] = bytes;
        }
        // SAFETY: the instruction reads 64 bytes, which are a valid configuration; the operating system has permitted AMX (`Isa::all`).
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, readonly, preserves_flags)) };
        Self
    }
}

impl Drop for TileRegisters {
    fn drop(&mut self) {
        // SAFETY: no instruction uses the registers after this.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
    }
}

/// Operand of `ldtilecfg` (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2A).
#[derive(Default)]
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes: [u16; 16],
    rows: [u8; 16],
}
