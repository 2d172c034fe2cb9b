//! Weights of a file become strips; the order is in [`crate::form`].

use half::f16;

use crate::{
    form::{COLUMNS, Form, LINE, ROWS, TILE_BYTES, TILES},
    kind::Kind,
    stretch::Stretch,
};

/// Writes a strip from up to 16 rows of a file; the missing rows of the last strip are zero. `strip` is zero at first.
pub(crate) fn pack_strip(kind: Kind, rows: &[&[u8]], columns: usize, strip: &mut [u8]) {
    let form = Form::of(kind as u8);
    let chunk_columns = TILES * COLUMNS;
    let mut rest = strip;
    let mut stretch = Stretch::new();
    for first in (0..columns).step_by(chunk_columns) {
        let count = chunk_columns.min(columns - first);
        let file = first / kind.block() * kind.block_bytes()..(first + count) / kind.block() * kind.block_bytes();
        let (chunk, after) = rest.split_at_mut(form.chunk_bytes(count / COLUMNS));
        let (scales, quants) = chunk.split_at_mut(form.scales_bytes(count / COLUMNS));
        let mut tiles = [[0; TILE_BYTES]; TILES];
        for (index, row) in rows.iter().enumerate() {
            stretch.read(kind, &row[file.clone()]);
            put_scales(form, &stretch, count / COLUMNS, index, scales);
            put_quants(&stretch, index, &mut tiles);
        }
        for (tile, quants) in tiles.iter().zip(quants.chunks_exact_mut(form.quants_bytes())) {
            put_planes(form, tile, quants);
        }
        rest = after;
    }
}

/// A row's quants go to their places in the tiles.
fn put_quants(stretch: &Stretch, row: usize, tiles: &mut [[u8; TILE_BYTES]; TILES]) {
    for (tile, quants) in tiles.iter_mut().zip(stretch.quants.as_chunks::<COLUMNS>().0) {
        for (line, four) in tile.as_chunks_mut::<LINE>().0.iter_mut().zip(quants.as_chunks::<4>().0) {
            line[4 * row..4 * row + 4].copy_from_slice(four);
        }
    }
}

fn put_scales(form: Form, stretch: &Stretch, tiles: usize, row: usize, scales: &mut [u8]) {
    let mut put_half = |at: usize, value: f16| scales[at + 2 * row..][..2].copy_from_slice(&value.to_le_bytes());
    if !form.factors {
        for tile in 0..tiles {
            put_half(tile * form.scales_step(), stretch.scales[tile]);
            if form.minimum {
                put_half(tile * form.scales_step() + 2 * ROWS, stretch.minimums[tile]);
            }
        }
        return;
    }
    put_half(0, stretch.scales[0]);
    put_half(2 * ROWS, stretch.minimums[0]);
    for group in 0..tiles * form.groups() {
        let tile = form.scales_start() + group / form.groups() * form.scales_step();
        let at = tile + group % form.groups() * ROWS + row;
        scales[at] = stretch.scale_factors[group].cast_unsigned();
        if form.minimum {
            scales[at + form.groups() * ROWS] = stretch.minimum_factors[group].cast_unsigned();
        }
    }
}

/// Cuts the quants of a tile, lowest bits first in each byte, into planes.
fn put_planes(form: Form, tile: &[u8; TILE_BYTES], planes: &mut [u8]) {
    let (lines, _) = tile.as_chunks::<LINE>();
    match form.bits {
        8 => planes.copy_from_slice(tile),
        6 => {
            put_plane::<4>(lines, 2, &mut planes[..4 * LINE]);
            put_plane::<2>(lines, 0, &mut planes[4 * LINE..]);
        }
        5 => {
            put_plane::<4>(lines, 1, &mut planes[..4 * LINE]);
            put_plane::<1>(lines, 0, &mut planes[4 * LINE..]);
        }
        4 => put_plane::<4>(lines, 0, planes),
        3 => {
            put_plane::<2>(lines, 1, &mut planes[..2 * LINE]);
            put_plane::<1>(lines, 0, &mut planes[2 * LINE..]);
        }
        2 => put_plane::<2>(lines, 0, planes),
        bits => unreachable!("no form has {bits} bits"),
    }
}

/// A plane of `BITS` bits, from bit `from` of the quants.
fn put_plane<const BITS: usize>(lines: &[[u8; LINE]], from: u32, plane: &mut [u8]) {
    for (index, out) in plane.as_chunks_mut::<LINE>().0.iter_mut().enumerate() {
        for field in 0..8 / BITS {
            // Line `index` holds the lines that are 4 apart where two share it, neighbours otherwise.
            let line = &lines[plane_line::<BITS>(index, field)];
            for (out, quant) in out.iter_mut().zip(line) {
                *out |= (quant >> from & ((1 << BITS) - 1)) << (field * BITS);
            }
        }
    }
}

/// Which line of bytes is field `field` of line `index` of a plane.
const fn plane_line<const BITS: usize>(index: usize, field: usize) -> usize {
    match BITS {
        4 => index + 4 * field,
        2 => 4 * index + field,
        _ => field,
    }
}

/// Writes a strip of floats: column after column, 16 rows each.
pub(crate) fn pack_floats(kind: Kind, rows: &[&[u8]], strip: &mut [u8]) {
    let size = kind.block_bytes();
    for (index, row) in rows.iter().enumerate() {
        for (column, value) in strip.chunks_exact_mut(ROWS * size).zip(row.chunks_exact(size)) {
            column[index * size..(index + 1) * size].copy_from_slice(value);
        }
    }
}
