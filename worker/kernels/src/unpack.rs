//! Weights from strips, in plain Rust; the order is in [`crate::form`].

use half::f16;

use crate::form::{COLUMNS, Form, LINE, ROWS, TILE_BYTES, TILES};

/// A tile's quants as bytes, moved up to their top.
pub(crate) fn unpack<const KIND: u8>(planes: &[u8], tile: &mut [u8; TILE_BYTES]) {
    let (planes, _) = planes.as_chunks::<LINE>();
    for (index, line) in tile.as_chunks_mut::<LINE>().0.iter_mut().enumerate() {
        for (at, quant) in line.iter_mut().enumerate() {
            *quant = quant_at::<KIND>(planes, index, at);
        }
    }
}

/// The byte `at` of line `line` of a tile.
#[inline(always)]
fn quant_at<const KIND: u8>(planes: &[[u8; LINE]], line: usize, at: usize) -> u8 {
    let four = |planes: &[[u8; LINE]]| planes[line % 4][at] >> (4 * (line / 4)) << 4;
    let two = |planes: &[[u8; LINE]]| planes[line / 4][at] >> (2 * (line % 4)) << 6;
    let one = |planes: &[[u8; LINE]]| planes[0][at] >> line << 7;
    match const { Form::of(KIND).bits } {
        8 => planes[line][at],
        6 => four(planes) | two(&planes[4..]) >> 4,
        5 => four(planes) | one(&planes[4..]) >> 4,
        4 => four(planes),
        3 => two(planes) | one(&planes[2..]) >> 2,
        _ => two(planes),
    }
}

/// Scale (`part` 0) or minimum (1) of the columns of group `group` of tile `tile`, in a chunk whose scales are `scales`.
#[inline(always)]
pub(crate) fn scale<const KIND: u8>(scales: &[u8], tile: usize, part: usize, group: usize, row: usize) -> f32 {
    let form = const { Form::of(KIND) };
    let start = form.scales_start() + tile * form.scales_step();
    let place = (part * form.groups() + group) * ROWS + row;
    if form.factors {
        let factor = scales[start + place].cast_signed();
        half(scales, 2 * (part * ROWS + row)) * f32::from(factor)
    } else {
        half(scales, start + 2 * place)
    }
}

fn half(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// The weights of row `row` of a strip.
pub(crate) fn unpack_row<const KIND: u8>(strip: &[u8], row: usize, out: &mut [f32]) {
    let form = const { Form::of(KIND) };
    let mut rest = strip;
    for out in out.chunks_mut(TILES * COLUMNS) {
        let tiles = out.len() / COLUMNS;
        let (chunk, after) = rest.split_at(form.chunk_bytes(tiles));
        let (scales, quants) = chunk.split_at(form.scales_bytes(tiles));
        for (tile, planes) in quants.chunks_exact(form.quants_bytes()).enumerate() {
            let out = &mut out[tile * COLUMNS..][..COLUMNS];
            for (group, out) in out.chunks_mut(COLUMNS / form.groups()).enumerate() {
                unpack_group::<KIND>(scales, planes, [tile, group, row], out);
            }
        }
        rest = after;
    }
}

/// The weights in one row of a tile that have one scale.
fn unpack_group<const KIND: u8>(scales: &[u8], planes: &[u8], [tile, group, row]: [usize; 3], out: &mut [f32]) {
    let form = const { Form::of(KIND) };
    let zero = if form.minimum { 0 } else { 1 << (form.bits - 1) };
    let factor = scale::<KIND>(scales, tile, 0, group, row);
    let minimum = if form.minimum { scale::<KIND>(scales, tile, 1, group, row) } else { 0.0 };
    let (planes, _) = planes.as_chunks::<LINE>();
    let first = group * out.len();
    for (index, out) in out.iter_mut().enumerate() {
        let column = first + index;
        let quant = quant_at::<KIND>(planes, column / 4, 4 * row + column % 4) >> form.shift();
        *out = factor * f32::from(i16::from(quant) - zero) + minimum;
    }
}
