//! Packs the weights of a file into strips. [`crate::layout`] describes the result.

use half::f16;

use crate::{
    block::WeightBlock,
    layout::{COLUMNS, LINE, PackedLayout, ROWS, TILES, for_weight_type},
    weight_type::WeightType,
};

/// Four quants, one per byte: one row in one line.
type Word = [u8; 4];

/// Writes a strip from up to 16 rows of a file. The places of missing rows stay as they are.
pub(crate) fn pack_strip(weight_type: WeightType, rows: &[&[u8]], columns: usize, strip: &mut [u8]) {
    for_weight_type!(weight_type, pack_type(weight_type, rows, columns, strip));
}

fn pack_type<const TYPE: u8>(weight_type: WeightType, rows: &[&[u8]], columns: usize, strip: &mut [u8]) {
    let layout = const { PackedLayout::of(TYPE) };
    let chunk_columns = TILES * COLUMNS;
    let mut rest = strip;
    let mut block = WeightBlock::new();
    for first in (0..columns).step_by(chunk_columns) {
        let count = chunk_columns.min(columns - first);
        let file = first / weight_type.block_size() * weight_type.block_bytes()
            ..(first + count) / weight_type.block_size() * weight_type.block_bytes();
        let (chunk, after) = rest.split_at_mut(layout.chunk_bytes(count / COLUMNS));
        let (scales, quants) = chunk.split_at_mut(layout.scales_bytes(count / COLUMNS));
        for (index, row) in rows.iter().enumerate() {
            block.read(weight_type, &row[file.clone()]);
            put_scales::<TYPE>(&block, count / COLUMNS, index, scales);
            let tiles = block.quants.as_chunks::<COLUMNS>().0.iter();
            for (tile, planes) in tiles.zip(quants.chunks_exact_mut(layout.tile_quants_bytes())) {
                put_planes::<TYPE>(index, tile, planes.as_chunks_mut().0);
            }
        }
        rest = after;
    }
}

#[inline]
fn put_scales<const TYPE: u8>(block: &WeightBlock, tiles: usize, row: usize, scales: &mut [u8]) {
    let layout = const { PackedLayout::of(TYPE) };
    let mut put_half = |at: usize, value: f16| scales[at + 2 * row..][..2].copy_from_slice(&value.to_le_bytes());
    if !layout.has_factors {
        for tile in 0..tiles {
            put_half(tile * layout.tile_scales_bytes(), block.scales[tile]);
            if layout.has_minimum {
                put_half(tile * layout.tile_scales_bytes() + 2 * ROWS, block.minimums[tile]);
            }
        }
        return;
    }
    put_half(0, block.scales[0]);
    put_half(2 * ROWS, block.minimums[0]);
    let factors = scales[layout.tile_scales_offset()..].chunks_exact_mut(layout.tile_scales_bytes()).take(tiles);
    for (tile, factors) in factors.enumerate() {
        for group in 0..layout.groups() {
            let at = group * ROWS + row;
            factors[at] = block.scale_factors[tile * layout.groups() + group].cast_unsigned();
            if layout.has_minimum {
                factors[at + layout.groups() * ROWS] =
                    block.minimum_factors[tile * layout.groups() + group].cast_unsigned();
            }
        }
    }
}

/// Writes the quants of one row in one tile into the planes. Each byte of `quants` is one quant, at its lowest bits.
#[inline]
fn put_planes<const TYPE: u8>(row: usize, quants: &[u8; COLUMNS], planes: &mut [[u8; LINE]]) {
    match const { PackedLayout::of(TYPE).bits } {
        8 => put_plane::<8>(quants, 0, row, planes),
        6 => {
            put_plane::<4>(quants, 2, row, &mut planes[..4]);
            put_plane::<2>(quants, 0, row, &mut planes[4..]);
        }
        5 => {
            put_plane::<4>(quants, 1, row, &mut planes[..4]);
            put_plane::<1>(quants, 0, row, &mut planes[4..]);
        }
        4 => put_plane::<4>(quants, 0, row, planes),
        3 => {
            put_plane::<2>(quants, 1, row, &mut planes[..2]);
            put_plane::<1>(quants, 0, row, &mut planes[2..]);
        }
        2 => put_plane::<2>(quants, 0, row, planes),
        bits => unreachable!("no layout has quants of {bits} bits"),
    }
}

/// Writes one row into a plane: `BITS` bits from bit `from` of its quants, as one word per line.
#[inline(always)]
fn put_plane<const BITS: usize>(quants: &[u8; COLUMNS], from: u32, row: usize, plane: &mut [[u8; LINE]]) {
    let (words, _) = quants.as_chunks();
    // The same bits of four bytes at once. The mask drops bits that the shift has moved in from the next byte.
    let mask = u32::from_ne_bytes([((1u32 << BITS) - 1) as u8; 4]);
    for (index, line) in plane.iter_mut().enumerate().take(BITS) {
        let mut word = 0;
        for field in 0..8 / BITS {
            let quants: Word = words[plane_line::<BITS>(index, field)];
            word |= (u32::from_le_bytes(quants) >> from & mask) << (field * BITS);
        }
        line.as_chunks_mut::<4>().0[row] = word.to_le_bytes();
    }
}

/// Index of the unpacked line that field `field` of line `index` of a plane belongs to.
const fn plane_line<const BITS: usize>(index: usize, field: usize) -> usize {
    match BITS {
        8 => index,
        4 => index + 4 * field,
        2 => 4 * index + field,
        _ => field,
    }
}

/// Writes a strip of floats: column after column, 16 rows in each. The places of missing rows stay as they are.
pub(crate) fn pack_floats(weight_type: WeightType, rows: &[&[u8]], strip: &mut [u8]) {
    match weight_type {
        WeightType::F32 => put_floats::<4>(rows, strip),
        _ => put_floats::<2>(rows, strip),
    }
}

fn put_floats<const SIZE: usize>(rows: &[&[u8]], strip: &mut [u8]) {
    let (columns, _) = strip.as_chunks_mut::<SIZE>().0.as_chunks_mut::<ROWS>();
    for (index, row) in rows.iter().enumerate() {
        for (column, value) in columns.iter_mut().zip(row.as_chunks::<SIZE>().0) {
            column[index] = *value;
        }
    }
}
