//! Products in plain Rust.

use half::{bf16, f16};

use crate::{
    form::{Form, LINE, ROWS, TILE_BYTES, TILES, for_kind},
    inputs::{Block, GROUP, Rows},
    kind::Kind,
    unpack::{scale, unpack},
};

/// Adds the products of a strip with rows of inputs to `sums`, one for each row of inputs.
pub(crate) fn multiply_quants(kind: Kind, strip: &[u8], inputs: Rows, sums: &mut [[f32; ROWS]]) {
    for_kind!(kind, multiply_kind(strip, inputs, sums));
}

fn multiply_kind<const KIND: u8>(strip: &[u8], inputs: Rows, sums: &mut [[f32; ROWS]]) {
    let form = const { Form::of(KIND) };
    let mut rest = strip;
    for first in (0..inputs.blocks()).step_by(TILES) {
        let tiles = TILES.min(inputs.blocks() - first);
        let (chunk, after) = rest.split_at(form.chunk_bytes(tiles));
        let (scales, quants) = chunk.split_at(form.scales_bytes(tiles));
        for (index, planes) in quants.chunks_exact(form.quants_bytes()).enumerate() {
            let tile = Tile::of::<KIND>(scales, planes, index);
            for (group, sums) in sums.chunks_mut(GROUP).enumerate() {
                for (block, sums) in inputs.block(group, first + index).iter().zip(sums) {
                    tile.multiply::<KIND>(block, sums);
                }
            }
        }
        rest = after;
    }
}

struct Tile {
    quants: [u8; TILE_BYTES],
    scales: [[f32; ROWS]; 2],
    minimums: [[f32; ROWS]; 2],
}

impl Tile {
    fn of<const KIND: u8>(scales: &[u8], planes: &[u8], index: usize) -> Self {
        let form = const { Form::of(KIND) };
        let mut tile = Self { quants: [0; TILE_BYTES], scales: [[0.0; ROWS]; 2], minimums: [[0.0; ROWS]; 2] };
        unpack::<KIND>(planes, &mut tile.quants);
        for group in 0..form.groups() {
            for row in 0..ROWS {
                tile.scales[group][row] = scale::<KIND>(scales, index, 0, group, row);
                if form.minimum {
                    tile.minimums[group][row] = scale::<KIND>(scales, index, 1, group, row) * form.excess();
                }
            }
        }
        tile
    }

    fn multiply<const KIND: u8>(&self, block: &Block, sums: &mut [f32; ROWS]) {
        let form = const { Form::of(KIND) };
        let (lines, _) = self.quants.as_chunks::<LINE>();
        let (inputs, _) = block.quants.as_chunks::<4>();
        let half = lines.len() / form.groups();
        let dots = [dot(&lines[..half], &inputs[..half]), dot(&lines[half..], &inputs[half..])];
        let offsets = match (form.minimum, form.halves) {
            (true, _) => [0, 0],
            (false, true) => block.half_offsets,
            (false, false) => [block.offset, 0],
        };
        for (row, sum) in sums.iter_mut().enumerate() {
            let dot = |group: usize| (dots[group][row] + offsets[group]) as f32;
            let mut tile = self.scales[0][row] * dot(0);
            if form.halves {
                tile = self.scales[1][row].mul_add(dot(1), tile);
            }
            if form.minimum && form.halves {
                tile = self.minimums[0][row].mul_add(block.half_sums[0], tile);
                tile = self.minimums[1][row].mul_add(block.half_sums[1], tile);
            } else if form.minimum {
                tile = self.minimums[0][row].mul_add(block.sum, tile);
            }
            *sum = block.scale.mul_add(tile, *sum);
        }
    }
}

/// The dot products of 16 rows with the same inputs.
fn dot(lines: &[[u8; LINE]], inputs: &[[i8; 4]]) -> [i32; ROWS] {
    let mut dots = [0; ROWS];
    for (line, inputs) in lines.iter().zip(inputs) {
        for (dot, weights) in dots.iter_mut().zip(line.as_chunks::<4>().0) {
            *dot += (0..4).map(|at| i32::from(weights[at]) * i32::from(inputs[at])).sum::<i32>();
        }
    }
    dots
}

/// Adds the products of a strip of floats with rows of inputs to `sums`, one for each row of inputs.
pub(crate) fn multiply_floats(kind: Kind, strip: &[u8], inputs: &[f32], sums: &mut [[f32; ROWS]]) {
    match kind {
        Kind::F32 => multiply_each(strip, inputs, sums, f32::from_le_bytes),
        Kind::F16 => multiply_each(strip, inputs, sums, |bytes| f16::from_le_bytes(bytes).to_f32()),
        Kind::BF16 => multiply_each(strip, inputs, sums, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        kind => unreachable!("{kind:?} is quantised"),
    }
}

fn multiply_each<const N: usize>(
    strip: &[u8],
    inputs: &[f32],
    sums: &mut [[f32; ROWS]],
    read: impl Fn([u8; N]) -> f32,
) {
    let columns = inputs.len() / sums.len();
    for (column, weights) in strip.as_chunks::<N>().0.as_chunks::<ROWS>().0.iter().enumerate() {
        let weights = weights.map(&read);
        for (row, sums) in sums.iter_mut().enumerate() {
            let input = inputs[row * columns + column];
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum = weight.mul_add(input, *sum);
            }
        }
    }
}
