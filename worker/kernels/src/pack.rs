//! Weights of a file become strips; the order is in [`crate::form`].

use half::f16;

use crate::{
    form::{COLUMNS, Form, LINE, ROWS, TILES, for_kind},
    kind::Kind,
    stretch::Stretch,
};

/// Four quants, one in each byte.
type Word = [u8; 4];

/// Writes a strip from up to 16 rows of a file; the places of missing rows are left alone.
pub(crate) fn pack_strip(kind: Kind, rows: &[&[u8]], columns: usize, strip: &mut [u8]) {
    for_kind!(kind, pack_kind(kind, rows, columns, strip));
}

fn pack_kind<const KIND: u8>(kind: Kind, rows: &[&[u8]], columns: usize, strip: &mut [u8]) {
    let form = const { Form::of(KIND) };
    let chunk_columns = TILES * COLUMNS;
    let mut rest = strip;
    let mut stretch = Stretch::new();
    for first in (0..columns).step_by(chunk_columns) {
        let count = chunk_columns.min(columns - first);
        let file = first / kind.block() * kind.block_bytes()..(first + count) / kind.block() * kind.block_bytes();
        let (chunk, after) = rest.split_at_mut(form.chunk_bytes(count / COLUMNS));
        let (scales, quants) = chunk.split_at_mut(form.scales_bytes(count / COLUMNS));
        for (index, row) in rows.iter().enumerate() {
            stretch.read(kind, &row[file.clone()]);
            put_scales::<KIND>(&stretch, count / COLUMNS, index, scales);
            let tiles = stretch.quants.as_chunks::<COLUMNS>().0.iter();
            for (tile, planes) in tiles.zip(quants.chunks_exact_mut(form.quants_bytes())) {
                put_planes::<KIND>(index, tile, planes.as_chunks_mut().0);
            }
        }
        rest = after;
    }
}

#[inline]
fn put_scales<const KIND: u8>(stretch: &Stretch, tiles: usize, row: usize, scales: &mut [u8]) {
    let form = const { Form::of(KIND) };
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
    let factors = scales[form.scales_start()..].chunks_exact_mut(form.scales_step()).take(tiles);
    for (tile, factors) in factors.enumerate() {
        for group in 0..form.groups() {
            let at = group * ROWS + row;
            factors[at] = stretch.scale_factors[tile * form.groups() + group].cast_unsigned();
            if form.minimum {
                factors[at + form.groups() * ROWS] =
                    stretch.minimum_factors[tile * form.groups() + group].cast_unsigned();
            }
        }
    }
}

/// Cuts the quants that a row has in a tile, lowest bits first in each byte, into planes.
#[inline]
fn put_planes<const KIND: u8>(row: usize, quants: &[u8; COLUMNS], planes: &mut [[u8; LINE]]) {
    match const { Form::of(KIND).bits } {
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
        bits => unreachable!("no form has {bits} bits"),
    }
}

/// What a row has in a plane of `BITS` bits, from bit `from` of its quants: a word in each line.
#[inline(always)]
fn put_plane<const BITS: usize>(quants: &[u8; COLUMNS], from: u32, row: usize, plane: &mut [[u8; LINE]]) {
    let (words, _) = quants.as_chunks();
    // The same bits of four bytes; those that are shifted into a neighbour are masked.
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

/// Which line of bytes is field `field` of line `index` of a plane.
const fn plane_line<const BITS: usize>(index: usize, field: usize) -> usize {
    match BITS {
        8 => index,
        4 => index + 4 * field,
        2 => 4 * index + field,
        _ => field,
    }
}

/// Writes a strip of floats: column after column, 16 rows each; the places of missing rows are left alone.
pub(crate) fn pack_floats(kind: Kind, rows: &[&[u8]], strip: &mut [u8]) {
    match kind {
        Kind::F32 => put_floats::<4>(rows, strip),
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
