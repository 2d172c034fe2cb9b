//! Products with AMX: 16 rows of inputs and 16 rows of a strip at once.

use std::arch::{
    asm,
    x86_64::{
        __m512, _mm512_cvtepi32_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mul_ps,
        _mm512_set1_epi8, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps, _mm512_storeu_si512, _mm512_xor_si512,
    },
};

use super::avx512::{Head, Tile, fetch};
use crate::{
    form::{Form, ROWS, TILE_BYTES, TILES, for_kind},
    inputs::{Block, GROUP, Rows},
    kind::Kind,
};

/// Adds the products of a strip with rows of inputs to `sums`; there are sums for whole groups of rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(crate) fn multiply_quants(kind: Kind, strip: &[u8], inputs: Rows, sums: &mut [[f32; ROWS]]) {
    for_kind!(kind, multiply_kind(strip, inputs, sums));
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn multiply_kind<const KIND: u8>(strip: &[u8], inputs: Rows, sums: &mut [[f32; ROWS]]) {
    let form = const { Form::of(KIND) };
    configure(4 / form.groups() as u8 * 2);
    let mut rest = strip;
    let mut unpacked = Chunk::new();
    let mut dots = [[[0; ROWS]; GROUP]; 2 * TILES];
    for first in (0..inputs.blocks()).step_by(TILES) {
        let tiles = TILES.min(inputs.blocks() - first);
        let (chunk, after) = rest.split_at(form.chunk_bytes(tiles));
        unpacked.unpack::<KIND>(chunk, tiles);
        for (group, sums) in sums.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
            let (blocks, count) = inputs.chunk(group, first, tiles);
            unpacked.dots::<KIND>(blocks, count, tiles, &mut dots);
            unpacked.add::<KIND>(blocks, count, tiles, &dots, sums);
        }
        rest = after;
    }
    release();
}

#[repr(align(64))]
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
    fn unpack<const KIND: u8>(&mut self, chunk: &[u8], tiles: usize) {
        let form = const { Form::of(KIND) };
        let (scales, quants) = chunk.split_at(form.scales_bytes(tiles));
        let head = Head::of::<KIND>(scales);
        for (index, planes) in quants.chunks_exact(form.quants_bytes()).enumerate() {
            fetch(planes);
            let tile = Tile::of::<KIND>(&head, &scales[form.scales_start() + index * form.scales_step()..], planes);
            for (line, out) in tile.lines.iter().zip(self.lines[index].as_chunks_mut::<64>().0) {
                let line = if form.minimum { *line } else { _mm512_xor_si512(*line, _mm512_set1_epi8(-128)) };
                // SAFETY: 64 bytes.
                unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), line) };
            }
            self.scales[index] = tile.scales;
            self.minimums[index] = tile.minimums;
        }
    }

    #[inline]
    fn dots<const KIND: u8>(
        &self,
        blocks: &[Block],
        count: usize,
        tiles: usize,
        dots: &mut [[[i32; ROWS]; GROUP]; 16],
    ) {
        let form = const { Form::of(KIND) };
        for tile in 0..tiles {
            let a = blocks[tile * count..].as_ptr();
            for group in 0..form.groups() {
                let a = a.cast::<u8>().wrapping_add(16 * group);
                let b = self.lines[tile].as_ptr().wrapping_add(256 * group);
                let c = dots[tile * form.groups() + group].as_mut_ptr();
                unsafe {
                    if form.minimum {
                        asm!(
                            "tilezero tmm0",
                            "tileloadd tmm1, [{a} + {step}]",
                            "tileloadd tmm2, [{b} + {step}]",
                            "tdpbsud tmm0, tmm1, tmm2",
                            "tilestored [{c} + {step}], tmm0",
                            a = in(reg) a, b = in(reg) b, c = in(reg) c, step = in(reg) 64,
                            options(nostack),
                        );
                    } else {
                        asm!(
                            "tilezero tmm0",
                            "tileloadd tmm1, [{a} + {step}]",
                            "tileloadd tmm2, [{b} + {step}]",
                            "tdpbssd tmm0, tmm1, tmm2",
                            "tilestored [{c} + {step}], tmm0",
                            a = in(reg) a, b = in(reg) b, c = in(reg) c, step = in(reg) 64,
                            options(nostack),
                        );
                    }
                }
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn add<const KIND: u8>(
        &self,
        blocks: &[Block],
        count: usize,
        tiles: usize,
        dots: &[[[i32; ROWS]; GROUP]; 16],
        sums: &mut [[f32; ROWS]; GROUP],
    ) {
        let form = const { Form::of(KIND) };
        let mut all = [_mm512_setzero_ps(); GROUP];
        for row in 0..GROUP {
            all[row] = unsafe { _mm512_loadu_ps(sums[row].as_ptr()) };
        }
        for tile in 0..tiles {
            let blocks: &[Block; 16] = blocks[tile * count..][..16].try_into().unwrap();
            for row in 0..GROUP {
                let block = &blocks[row];
                let dot = |group: usize| unsafe {
                    _mm512_cvtepi32_ps(_mm512_loadu_si512(dots[tile * form.groups() + group][row].as_ptr().cast()))
                };
                let mut product = _mm512_mul_ps(self.scales[tile][0], dot(0));
                if form.halves {
                    product = _mm512_fmadd_ps(self.scales[tile][1], dot(1), product);
                }
                if form.minimum && form.halves {
                    product = _mm512_fmadd_ps(self.minimums[tile][0], _mm512_set1_ps(block.half_sums[0]), product);
                    product = _mm512_fmadd_ps(self.minimums[tile][1], _mm512_set1_ps(block.half_sums[1]), product);
                } else if form.minimum {
                    product = _mm512_fmadd_ps(self.minimums[tile][0], _mm512_set1_ps(block.sum), product);
                }
                all[row] = _mm512_fmadd_ps(_mm512_set1_ps(block.scale), product, all[row]);
            }
        }
        for row in 0..GROUP {
            unsafe { _mm512_storeu_ps(sums[row].as_mut_ptr(), all[row]) };
        }
    }
}

#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start: u8,
    none: [u8; 14],
    columns: [u16; 16],
    rows: [u8; 16],
}

fn configure(lines: u8) {
    let mut configuration = Configuration { palette: 1, start: 0, none: [0; 14], columns: [0; 16], rows: [0; 16] };
    for (tile, (rows, columns)) in [(16, 64), (16, 4 * u16::from(lines)), (lines, 64)].into_iter().enumerate() {
        configuration.rows[tile] = rows;
        configuration.columns[tile] = columns;
    }
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const configuration, options(nostack)) };
}

fn release() {
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}
