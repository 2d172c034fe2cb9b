//! Products in plain Rust: the reference for all other implementations.

use half::{bf16, f16};

use crate::{
    input_rows::{GROUP_ROWS, InputBlock, QuantizedRows},
    layout::{LINE, PackedLayout, ROWS, TILE_BYTES, TILES, for_weight_type},
    unpack::{scale, unpack},
    weight_type::WeightType,
};

/// Adds the products of a strip with rows of inputs to `sums`, which has one element per row of inputs.
pub(crate) fn multiply_quants(weight_type: WeightType, strip: &[u8], inputs: QuantizedRows, sums: &mut [[f32; ROWS]]) {
    for_weight_type!(weight_type, multiply_type(strip, inputs, sums));
}

fn multiply_type<const TYPE: u8>(strip: &[u8], inputs: QuantizedRows, sums: &mut [[f32; ROWS]]) {
    let layout = const { PackedLayout::of(TYPE) };
    let mut rest = strip;
    for first in (0..inputs.blocks()).step_by(TILES) {
        let tiles = TILES.min(inputs.blocks() - first);
        let (chunk, after) = rest.split_at(layout.chunk_bytes(tiles));
        let (scales, quants) = chunk.split_at(layout.scales_bytes(tiles));
        for (index, planes) in quants.chunks_exact(layout.tile_quants_bytes()).enumerate() {
            let tile = Tile::unpack::<TYPE>(scales, planes, index);
            for (group, sums) in sums.chunks_mut(GROUP_ROWS).enumerate() {
                for (block, sums) in inputs.block(group, first + index).iter().zip(sums) {
                    tile.multiply::<TYPE>(block, sums);
                }
            }
        }
        rest = after;
    }
}

/// An unpacked tile of weights.
struct Tile {
    quants: [u8; TILE_BYTES],
    scales: [[f32; ROWS]; 2],
    minimums: [[f32; ROWS]; 2],
}

impl Tile {
    fn unpack<const TYPE: u8>(scales: &[u8], planes: &[u8], index: usize) -> Self {
        let layout = const { PackedLayout::of(TYPE) };
        let mut tile = Self { quants: [0; TILE_BYTES], scales: [[0.0; ROWS]; 2], minimums: [[0.0; ROWS]; 2] };
        unpack::<TYPE>(planes, &mut tile.quants);
        for group in 0..layout.groups() {
            for row in 0..ROWS {
                tile.scales[group][row] = scale::<TYPE>(scales, index, 0, group, row);
                if layout.has_minimum {
                    tile.minimums[group][row] = scale::<TYPE>(scales, index, 1, group, row) * layout.quant_factor();
                }
            }
        }
        tile
    }

    fn multiply<const TYPE: u8>(&self, block: &InputBlock, sums: &mut [f32; ROWS]) {
        let layout = const { PackedLayout::of(TYPE) };
        let (lines, _) = self.quants.as_chunks::<LINE>();
        let (inputs, _) = block.quants.as_chunks::<4>();
        let half = lines.len() / layout.groups();
        let dots = [dot(&lines[..half], &inputs[..half]), dot(&lines[half..], &inputs[half..])];
        let offsets = match (layout.has_minimum, layout.two_groups) {
            (true, _) => [0, 0],
            (false, true) => block.half_offsets,
            (false, false) => [block.offset, 0],
        };
        for (row, sum) in sums.iter_mut().enumerate() {
            let dot = |group: usize| (dots[group][row] + offsets[group]) as f32;
            let mut tile = self.scales[0][row] * dot(0);
            if layout.two_groups {
                tile = self.scales[1][row].mul_add(dot(1), tile);
            }
            if layout.has_minimum && layout.two_groups {
                tile = self.minimums[0][row].mul_add(block.half_sums[0], tile);
                tile = self.minimums[1][row].mul_add(block.half_sums[1], tile);
            } else if layout.has_minimum {
                tile = self.minimums[0][row].mul_add(block.sum, tile);
            }
            *sum = block.scale.mul_add(tile, *sum);
        }
    }
}

/// Dot products of 16 rows of weights with the same inputs.
fn dot(lines: &[[u8; LINE]], inputs: &[[i8; 4]]) -> [i32; ROWS] {
    let mut dots = [0; ROWS];
    for (line, inputs) in lines.iter().zip(inputs) {
        for (dot, weights) in dots.iter_mut().zip(line.as_chunks::<4>().0) {
            *dot += (0..4).map(|at| i32::from(weights[at]) * i32::from(inputs[at])).sum::<i32>();
        }
    }
    dots
}

/// Adds the products of a strip of float weights with rows of inputs to `sums`, which has one element per row of inputs.
pub(crate) fn multiply_floats(weight_type: WeightType, strip: &[u8], inputs: &[f32], sums: &mut [[f32; ROWS]]) {
    match weight_type {
        WeightType::F32 => multiply_each(strip, inputs, sums, f32::from_le_bytes),
        WeightType::F16 => multiply_each(strip, inputs, sums, |bytes| f16::from_le_bytes(bytes).to_f32()),
        WeightType::BF16 => multiply_each(strip, inputs, sums, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        weight_type => unreachable!("{weight_type:?} is quantized"),
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
