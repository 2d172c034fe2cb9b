//! Random weights and inputs for tests, and ggml's formula for a single weight as their reference.

use half::{bf16, f16};

use crate::weight_type::WeightType;

/// Pseudorandom numbers from a seed.
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    /// Next 64 bits: splitmix64, <https://prng.di.unimi.it/splitmix64.c>.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    }

    /// Next number between -1 and 1.
    pub(crate) fn number(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub(crate) fn numbers(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.number()).collect()
    }

    /// A matrix as in a file: random quants and factors, scales between -1 and 1.
    pub(crate) fn weights(&mut self, weight_type: WeightType, rows: usize, columns: usize) -> Vec<u8> {
        let blocks = rows * columns / weight_type.block_size();
        (0..blocks).flat_map(|_| self.block(weight_type)).collect()
    }

    fn block(&mut self, weight_type: WeightType) -> Vec<u8> {
        let halves: &[usize] = match weight_type {
            WeightType::F32 => return self.number().to_le_bytes().to_vec(),
            WeightType::F16 => return f16::from_f32(self.number()).to_le_bytes().to_vec(),
            WeightType::BF16 => return bf16::from_f32(self.number()).to_le_bytes().to_vec(),
            WeightType::Q4_0 | WeightType::Q5_0 | WeightType::Q8_0 => &[0],
            WeightType::Q4_1 | WeightType::Q5_1 | WeightType::Q4K | WeightType::Q5K => &[0, 2],
            WeightType::Q2K => &[80, 82],
            WeightType::Q3K => &[108],
            WeightType::Q6K => &[208],
        };
        let mut block: Vec<u8> = (0..weight_type.block_bytes()).map(|_| self.bits() as u8).collect();
        for at in halves {
            block[*at..at + 2].copy_from_slice(&f16::from_f32(self.number()).to_le_bytes());
        }
        block
    }
}

/// Weight `at` of a block by ggml's formula (`ggml-quants.c`, `dequantize_row_*`), written for one weight.
pub(crate) fn weight(weight_type: WeightType, block: &[u8], at: usize) -> f32 {
    let half = |from: usize| f16::from_le_bytes([block[from], block[from + 1]]).to_f32();
    let nibble = |from: usize| i32::from(if at < 16 { block[from + at] & 15 } else { block[from + at - 16] >> 4 });
    let fifth = |from: usize| i32::from(block[from + at / 8] >> (at % 8) & 1) << 4;
    let pair = |from: usize| i32::from(block[from + at / 128 * 32 + at % 32] >> (at / 32 % 4 * 2) & 3);
    let half_byte = |from: usize| i32::from(block[from + at / 64 * 32 + at % 32] >> (at / 32 % 2 * 4) & 15);
    let bit = |from: usize| i32::from(block[from + at % 32] >> (at / 32) & 1);
    match weight_type {
        WeightType::F32 => f32::from_le_bytes([block[0], block[1], block[2], block[3]]),
        WeightType::F16 => half(0),
        WeightType::BF16 => bf16::from_le_bytes([block[0], block[1]]).to_f32(),
        WeightType::Q4_0 => half(0) * (nibble(2) - 8) as f32,
        WeightType::Q4_1 => half(0) * nibble(4) as f32 + half(2),
        WeightType::Q5_0 => half(0) * ((nibble(6) | fifth(2)) - 16) as f32,
        WeightType::Q5_1 => half(0) * (nibble(8) | fifth(4)) as f32 + half(2),
        WeightType::Q8_0 => half(0) * f32::from(block[2 + at].cast_signed()),
        WeightType::Q2K => {
            let scale = block[at / 16];
            half(80) * f32::from(scale & 15) * pair(16) as f32 - half(82) * f32::from(scale >> 4)
        }
        WeightType::Q3K => {
            let group = at / 16;
            let low = if group < 8 { block[96 + group] & 15 } else { block[96 + group - 8] >> 4 };
            let high = block[104 + group % 4] >> (group / 4 * 2) & 3;
            half(108) * (i32::from(low | high << 4) - 32) as f32 * (pair(32) + 4 * bit(0) - 4) as f32
        }
        WeightType::Q4K | WeightType::Q5K => {
            let (scale, minimum) = scale_of_6_bits(&block[4..16], at / 32);
            let quant = if weight_type == WeightType::Q4K { half_byte(16) } else { half_byte(48) | bit(16) << 4 };
            half(0) * scale * quant as f32 - half(2) * minimum
        }
        WeightType::Q6K => {
            let low = block[at / 128 * 64 + at % 64] >> (at / 64 % 2 * 4) & 15;
            let factor = block[192 + at / 16].cast_signed();
            half(208) * f32::from(factor) * (i32::from(low) + 16 * pair(128) - 32) as f32
        }
    }
}

fn scale_of_6_bits(packed: &[u8], group: usize) -> (f32, f32) {
    let (scale, minimum) = if group < 4 {
        (packed[group] & 63, packed[group + 4] & 63)
    } else {
        let rest = packed[group + 4];
        (rest & 15 | packed[group - 4] >> 6 << 4, rest >> 4 | packed[group] >> 6 << 4)
    };
    (f32::from(scale), f32::from(minimum))
}
