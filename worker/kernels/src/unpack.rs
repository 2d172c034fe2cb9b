//! Unpacks weights from strips, in plain Rust. [`crate::layout`] describes the strips.

use half::f16;

use crate::layout::{COLUMNS, LINE, PackedLayout, ROWS, TILE_BYTES, TILES};

/// Unpacks the quants of a tile to bytes, at the top of each.
pub(crate) fn unpack<const TYPE: u8>(planes: &[u8], tile: &mut [u8; TILE_BYTES]) {
    let (planes, _) = planes.as_chunks::<LINE>();
    for (index, line) in tile.as_chunks_mut::<LINE>().0.iter_mut().enumerate() {
        for (at, quant) in line.iter_mut().enumerate() {
            *quant = quant_at::<TYPE>(planes, index, at);
        }
    }
}

/// Byte `at` of the unpacked line `line` of a tile: one quant, at the top of the byte.
#[inline(always)]
fn quant_at<const TYPE: u8>(planes: &[[u8; LINE]], line: usize, at: usize) -> u8 {
    let four = |planes: &[[u8; LINE]]| planes[line % 4][at] >> (4 * (line / 4)) << 4;
    let two = |planes: &[[u8; LINE]]| planes[line / 4][at] >> (2 * (line % 4)) << 6;
    let one = |planes: &[[u8; LINE]]| planes[0][at] >> line << 7;
    match const { PackedLayout::of(TYPE).bits } {
        8 => planes[line][at],
        6 => four(planes) | two(&planes[4..]) >> 4,
        5 => four(planes) | one(&planes[4..]) >> 4,
        4 => four(planes),
        3 => two(planes) | one(&planes[2..]) >> 2,
        _ => two(planes),
    }
}

/// Scale (`part` 0) or minimum (`part` 1) of row `row` in column group `group` of tile `tile`. `scales` are the scales of the
/// whole chunk.
#[inline(always)]
pub(crate) fn scale<const TYPE: u8>(scales: &[u8], tile: usize, part: usize, group: usize, row: usize) -> f32 {
    let layout = const { PackedLayout::of(TYPE) };
    let start = layout.tile_scales_offset() + tile * layout.tile_scales_bytes();
    let index = (part * layout.groups() + group) * ROWS + row;
    if layout.has_factors {
        let factor = scales[start + index].cast_signed();
        read_f16(scales, 2 * (part * ROWS + row)) * f32::from(factor)
    } else {
        read_f16(scales, start + 2 * index)
    }
}

fn read_f16(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// Unpacks the weights of row `row` of a strip.
pub(crate) fn unpack_row<const TYPE: u8>(strip: &[u8], row: usize, out: &mut [f32]) {
    let layout = const { PackedLayout::of(TYPE) };
    let mut rest = strip;
    for out in out.chunks_mut(TILES * COLUMNS) {
        let tiles = out.len() / COLUMNS;
        let (chunk, after) = rest.split_at(layout.chunk_bytes(tiles));
        let (scales, quants) = chunk.split_at(layout.scales_bytes(tiles));
        for (tile, planes) in quants.chunks_exact(layout.tile_quants_bytes()).enumerate() {
            let out = &mut out[tile * COLUMNS..][..COLUMNS];
            for (group, out) in out.chunks_mut(COLUMNS / layout.groups()).enumerate() {
                unpack_group::<TYPE>(scales, planes, [tile, group, row], out);
            }
        }
        rest = after;
    }
}

/// Unpacks the weights of one row in one column group of a tile.
fn unpack_group<const TYPE: u8>(scales: &[u8], planes: &[u8], [tile, group, row]: [usize; 3], out: &mut [f32]) {
    let layout = const { PackedLayout::of(TYPE) };
    let zero = if layout.has_minimum { 0 } else { 1 << (layout.bits - 1) };
    let factor = scale::<TYPE>(scales, tile, 0, group, row);
    let minimum = if layout.has_minimum { scale::<TYPE>(scales, tile, 1, group, row) } else { 0.0 };
    let (planes, _) = planes.as_chunks::<LINE>();
    let first = group * out.len();
    for (index, out) in out.iter_mut().enumerate() {
        let column = first + index;
        let quant = quant_at::<TYPE>(planes, column / 4, 4 * row + column % 4) >> layout.shift();
        *out = factor * f32::from(i16::from(quant) - zero) + minimum;
    }
}
