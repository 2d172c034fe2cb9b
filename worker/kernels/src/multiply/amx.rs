//! Products with AMX: 16 rows of a strip and up to 16 rows of inputs at once.
//!
//! The dot products of a tile come from one instruction. What remains is most of the work: to bring the sixteen times
//! sixteen whole numbers through memory to vectors, and there to scale and add them.

use std::arch::{
    asm,
    x86_64::{
        __m512, _mm512_cvtepi32_ps, _mm512_fmadd_ps, _mm512_load_si512, _mm512_loadu_ps, _mm512_mul_ps,
        _mm512_set1_epi8, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps, _mm512_storeu_si512, _mm512_xor_si512,
    },
};

use super::avx512::{Head, Tile, fetch};
use crate::{
    input_rows::{GROUP_ROWS, InputBlock, QuantizedRows},
    layout::{LINE, PackedLayout, ROWS, TILE_BYTES, TILES, for_weight_type},
    weight_type::WeightType,
};

/// Adds the products of a strip with rows of inputs to `sums`, which are for whole groups of rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(crate) fn multiply_quants(weight_type: WeightType, strip: &[u8], inputs: QuantizedRows, sums: &mut [[f32; ROWS]]) {
    for_weight_type!(weight_type, multiply_type(strip, inputs, sums));
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn multiply_type<const TYPE: u8>(strip: &[u8], inputs: QuantizedRows, sums: &mut [[f32; ROWS]]) {
    let layout = const { PackedLayout::of(TYPE) };
    let _tiles = TileRegisters::configure(8 / layout.groups() as u8);
    let mut unpacked = Chunk::new();
    let mut dots = [Dots::new(), Dots::new(), Dots::new(), Dots::new()];
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

/// `dots = inputs * weights` with the tile registers of these numbers.
macro_rules! product_of_tiles {
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
/// A chunk whose quants have become signed bytes, or bytes without sign where there are minimums.
struct Chunk {
    lines: [[u8; TILE_BYTES]; TILES],
    scales: [[__m512; 2]; TILES],
    minimums: [[__m512; 2]; TILES],
}

impl Chunk {
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
        let head = Head::of::<TYPE>(scales);
        let sign = _mm512_set1_epi8(if layout.has_minimum { 0 } else { -128 });
        for (index, planes) in quants.chunks_exact(layout.tile_quants_bytes()).enumerate() {
            fetch(planes);
            let tile = Tile::of::<TYPE>(
                &head,
                &scales[layout.tile_scales_offset() + index * layout.tile_scales_bytes()..],
                planes,
            );
            for (line, out) in tile.lines.iter().zip(self.lines[index].as_chunks_mut::<LINE>().0) {
                // SAFETY: 64 bytes.
                unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), _mm512_xor_si512(*line, sign)) };
            }
            self.scales[index] = tile.scales;
            self.minimums[index] = tile.minimums;
        }
    }

    /// Adds the products with `N` rows of inputs, of which `count` stand together in `blocks`, to the rows' sums; `dots` are
    /// for what comes between.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn multiply<const TYPE: u8, const N: usize>(
        &self,
        blocks: &[InputBlock],
        count: usize,
        tiles: usize,
        dots: &mut [Dots; 4],
        sums: &mut [[f32; ROWS]; N],
    ) {
        let mut all = [_mm512_setzero_ps(); N];
        for (all, sums) in all.iter_mut().zip(sums.iter()) {
            // SAFETY: sixteen floats.
            *all = unsafe { _mm512_loadu_ps(sums.as_ptr()) };
        }
        let rows = |tile: usize| blocks[tile * count..].first_chunk::<N>().expect("blocks behind the last row");
        // The dot products of the next tile are under way while those of this one are added.
        self.dots::<TYPE, N>(0, rows(0), &mut dots[..2]);
        for tile in 0..tiles {
            let (this, next) = dots.split_at_mut(2);
            let (this, next) = if tile % 2 == 0 { (this, next) } else { (next, this) };
            if tile + 1 < tiles {
                self.dots::<TYPE, N>(tile + 1, rows(tile + 1), next);
            }
            for row in 0..N {
                let product = self.product::<TYPE>(tile, &rows(tile)[row], this, row);
                all[row] = _mm512_fmadd_ps(_mm512_set1_ps(rows(tile)[row].scale), product, all[row]);
            }
        }
        for (all, sums) in all.iter().zip(sums) {
            // SAFETY: sixteen floats.
            unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), *all) };
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn product<const TYPE: u8>(&self, tile: usize, block: &InputBlock, dots: &[Dots], row: usize) -> __m512 {
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

    /// Dot products of a tile with `N` rows, for each of the groups of columns that have a scale.
    #[inline]
    fn dots<const TYPE: u8, const N: usize>(&self, tile: usize, blocks: &[InputBlock; N], dots: &mut [Dots]) {
        let layout = const { PackedLayout::of(TYPE) };
        for (group, dots) in dots.iter_mut().take(layout.groups()).enumerate() {
            let inputs = blocks.as_ptr().cast::<u8>().wrapping_add(16 * group);
            let weights = self.lines[tile][TILE_BYTES / 2 * group..].as_ptr();
            // SAFETY: the registers are configured. InputRows are N rows, 64 bytes from one to the next, of which 32 bytes
            // are read, 16 of them where there are two groups; weights are 8 lines of 64 bytes, or 4; dots are N lines.
            unsafe {
                match (layout.has_minimum, N) {
                    (false, 8) => product_of_tiles!("tdpbssd", 3, 4, 2, inputs, weights, dots),
                    (false, _) => product_of_tiles!("tdpbssd", 0, 1, 2, inputs, weights, dots),
                    (true, 8) => product_of_tiles!("tdpbsud", 3, 4, 2, inputs, weights, dots),
                    (true, _) => product_of_tiles!("tdpbsud", 0, 1, 2, inputs, weights, dots),
                }
            }
        }
    }
}

/// Dot products of rows of inputs with the 16 rows of a strip.
#[repr(align(64))]
struct Dots([[i32; ROWS]; GROUP_ROWS]);

impl Dots {
    fn new() -> Self {
        Self([[0; ROWS]; GROUP_ROWS])
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn row(&self, row: usize) -> __m512 {
        // SAFETY: 64 bytes at a multiple of 64.
        _mm512_cvtepi32_ps(unsafe { _mm512_load_si512(self.0[row].as_ptr().cast()) })
    }
}

/// The tile registers of this thread are ours. While they are, the operating system saves 8 KiB more with each switch.
struct TileRegisters;

impl TileRegisters {
    /// Registers 0 and 3 are dot products of 16 and of 8 rows of inputs, 1 and 4 these rows, 2 is `lines` lines of weights.
    fn configure(lines: u8) -> Self {
        let mut configuration = Configuration { palette: 1, ..Configuration::default() };
        let columns = 4 * u16::from(lines);
        let shapes = [(16, 64), (16, columns), (lines, 64), (8, 64), (8, columns)];
        for (register, (rows, bytes)) in shapes.into_iter().enumerate() {
            configuration.rows[register] = rows;
            configuration.bytes[register] = bytes;
        }
        // SAFETY: reads the 64 bytes, which are a valid configuration; the operating system allows it (`Isa::all`).
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const configuration, options(nostack, readonly, preserves_flags))
        };
        Self
    }
}

impl Drop for TileRegisters {
    fn drop(&mut self) {
        // SAFETY: nobody uses the registers any more.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
    }
}

/// What `ldtilecfg` reads.
#[derive(Default)]
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes: [u16; 16],
    rows: [u8; 16],
}
