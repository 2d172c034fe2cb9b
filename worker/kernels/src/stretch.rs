//! Reading the blocks of a GGUF file: <https://github.com/ggml-org/ggml>, `ggml-common.h` and `ggml-quants.c`.

use half::f16;

use crate::{
    form::{COLUMNS, TILES},
    kind::Kind,
};

/// Up to 256 columns of one row, whatever kind they come from. Quants are not negative: 0 .. 2^bits.
pub(crate) struct Stretch {
    /// The quants, column after column.
    pub(crate) quants: [u8; TILES * COLUMNS],
    /// Scales and minimums: of each 32 columns, or the first of all columns where they have factors.
    pub(crate) scales: [f16; TILES],
    pub(crate) minimums: [f16; TILES],
    /// Factors of the scale and of the minimum, of each 16 or 32 columns.
    pub(crate) scale_factors: [i8; 2 * TILES],
    pub(crate) minimum_factors: [i8; 2 * TILES],
}

impl Stretch {
    pub(crate) fn new() -> Self {
        Self {
            quants: [0; TILES * COLUMNS],
            scales: [f16::ZERO; TILES],
            minimums: [f16::ZERO; TILES],
            scale_factors: [0; 2 * TILES],
            minimum_factors: [0; 2 * TILES],
        }
    }

    /// Reads `blocks`, which are one block of 256 weights or up to eight of 32.
    pub(crate) fn read(&mut self, kind: Kind, blocks: &[u8]) {
        match kind {
            Kind::Q4_0 => self.read_small(blocks, 18, read_q4_0),
            Kind::Q4_1 => self.read_small(blocks, 20, read_q4_1),
            Kind::Q5_0 => self.read_small(blocks, 22, read_q5_0),
            Kind::Q5_1 => self.read_small(blocks, 24, read_q5_1),
            Kind::Q8_0 => self.read_small(blocks, 34, read_q8_0),
            Kind::Q2K => self.read_q2k(blocks),
            Kind::Q3K => self.read_q3k(blocks),
            Kind::Q4K => self.read_q4k(blocks),
            Kind::Q5K => self.read_q5k(blocks),
            Kind::Q6K => self.read_q6k(blocks),
            Kind::F32 | Kind::F16 | Kind::BF16 => unreachable!("floats have no quants"),
        }
    }

    fn read_small(&mut self, blocks: &[u8], size: usize, read: fn(&[u8], &mut [u8; COLUMNS]) -> (f16, f16)) {
        let (quants, _) = self.quants.as_chunks_mut();
        for (index, (block, quants)) in blocks.chunks_exact(size).zip(quants).enumerate() {
            (self.scales[index], self.minimums[index]) = read(block, quants);
        }
    }

    /// Scales and minimums 16, quants 64 (2 bits), scale of scales, scale of minimums.
    fn read_q2k(&mut self, block: &[u8]) {
        self.scales[0] = half(block, 80);
        self.minimums[0] = -half(block, 82);
        for (index, byte) in block[..16].iter().enumerate() {
            self.scale_factors[index] = (byte & 15) as i8;
            self.minimum_factors[index] = (byte >> 4) as i8;
        }
        self.read_pairs(&block[16..80], 0);
    }

    /// High bits 32, quants 64 (2 bits), scales 12 (6 bits, 32 is zero), scale of scales.
    fn read_q3k(&mut self, block: &[u8]) {
        self.scales[0] = half(block, 108);
        let packed = &block[96..108];
        for index in 0..16 {
            // Bytes 0 .. 8 have the lower four bits, bytes 8 .. 12 the upper two.
            let low = packed[index % 8] >> (4 * (index / 8)) & 15;
            let high = packed[8 + index % 4] >> (2 * (index / 4)) & 3;
            self.scale_factors[index] = (low | high << 4) as i8 - 32;
        }
        self.read_pairs(&block[32..96], 0);
        for (index, quant) in self.quants.iter_mut().enumerate() {
            *quant |= (block[index % 32] >> (index / 32) & 1) << 2;
        }
    }

    /// Scale of scales, scale of minimums, both of 6 bits in 12, quants 128 (4 bits).
    fn read_q4k(&mut self, block: &[u8]) {
        self.read_scales_of_6_bits(block);
        self.read_nibbles(&block[16..144]);
    }

    /// As Q4K, with 32 bytes of fifth bits before the quants.
    fn read_q5k(&mut self, block: &[u8]) {
        self.read_scales_of_6_bits(block);
        self.read_nibbles(&block[48..176]);
        let high = &block[16..48];
        for (tile, quants) in self.quants.as_chunks_mut::<COLUMNS>().0.iter_mut().enumerate() {
            for (quant, high) in quants.iter_mut().zip(high) {
                *quant |= (high >> tile & 1) << 4;
            }
        }
    }

    /// Lower four bits 128, upper two bits 64, factors 16, scale.
    fn read_q6k(&mut self, block: &[u8]) {
        self.scales[0] = half(block, 208);
        for (factor, byte) in self.scale_factors.iter_mut().zip(&block[192..208]) {
            *factor = byte.cast_signed();
        }
        self.read_pairs(&block[128..192], 4);
        let (low, _) = block[..128].as_chunks::<64>();
        for (low, quants) in low.iter().zip(self.quants.as_chunks_mut::<128>().0) {
            let (first, second) = quants.split_at_mut(64);
            for ((low, first), second) in low.iter().zip(first).zip(second) {
                *first |= low & 15;
                *second |= low >> 4;
            }
        }
    }

    /// Pairs of bits: 32 bytes hold 128 columns, each byte those that are 32 apart. They get to bit `shift`.
    fn read_pairs(&mut self, bytes: &[u8], shift: u32) {
        let (bytes, _) = bytes.as_chunks::<32>();
        for (bytes, quants) in bytes.iter().zip(self.quants.as_chunks_mut::<128>().0) {
            for (field, quants) in quants.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                for (quant, byte) in quants.iter_mut().zip(bytes) {
                    *quant = (byte >> (2 * field) & 3) << shift;
                }
            }
        }
    }

    /// Four bits: 32 bytes hold 64 columns, each byte those that are 32 apart.
    fn read_nibbles(&mut self, bytes: &[u8]) {
        let (bytes, _) = bytes.as_chunks::<32>();
        for (bytes, quants) in bytes.iter().zip(self.quants.as_chunks_mut::<64>().0) {
            split_nibbles(bytes, quants);
        }
    }

    /// Eight scales and eight minimums of 6 bits in 12 bytes: the first four of each stand in the lower bits of bytes
    /// 0 .. 4 and 4 .. 8, the others have four bits in bytes 8 .. 12 and two above those of the first ones.
    fn read_scales_of_6_bits(&mut self, block: &[u8]) {
        self.scales[0] = half(block, 0);
        self.minimums[0] = -half(block, 2);
        let packed = &block[4..16];
        for index in 0..4 {
            let (scale, minimum, rest) = (packed[index], packed[index + 4], packed[index + 8]);
            self.scale_factors[index] = (scale & 63) as i8;
            self.minimum_factors[index] = (minimum & 63) as i8;
            self.scale_factors[index + 4] = (rest & 15 | scale >> 6 << 4) as i8;
            self.minimum_factors[index + 4] = (rest >> 4 | minimum >> 6 << 4) as i8;
        }
    }
}

fn half(bytes: &[u8], at: usize) -> f16 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Lower halves of bytes first, then upper halves.
fn split_nibbles(bytes: &[u8], quants: &mut [u8]) {
    let (low, high) = quants.split_at_mut(bytes.len());
    for ((byte, low), high) in bytes.iter().zip(low).zip(high) {
        *low = byte & 15;
        *high = byte >> 4;
    }
}

/// The fifth bits of 32 quants.
fn add_fifth_bits(bits: &[u8], quants: &mut [u8; COLUMNS]) {
    let bits = u32::from_le_bytes([bits[0], bits[1], bits[2], bits[3]]);
    for (index, quant) in quants.iter_mut().enumerate() {
        *quant |= ((bits >> index & 1) << 4) as u8;
    }
}

fn read_q4_0(block: &[u8], quants: &mut [u8; COLUMNS]) -> (f16, f16) {
    split_nibbles(&block[2..18], quants);
    (half(block, 0), f16::ZERO)
}

fn read_q4_1(block: &[u8], quants: &mut [u8; COLUMNS]) -> (f16, f16) {
    split_nibbles(&block[4..20], quants);
    (half(block, 0), half(block, 2))
}

fn read_q5_0(block: &[u8], quants: &mut [u8; COLUMNS]) -> (f16, f16) {
    split_nibbles(&block[6..22], quants);
    add_fifth_bits(&block[2..6], quants);
    (half(block, 0), f16::ZERO)
}

fn read_q5_1(block: &[u8], quants: &mut [u8; COLUMNS]) -> (f16, f16) {
    split_nibbles(&block[8..24], quants);
    add_fifth_bits(&block[4..8], quants);
    (half(block, 0), half(block, 2))
}

fn read_q8_0(block: &[u8], quants: &mut [u8; COLUMNS]) -> (f16, f16) {
    for (quant, byte) in quants.iter_mut().zip(&block[2..34]) {
        // Zero becomes 128.
        *quant = byte ^ 128;
    }
    (half(block, 0), f16::ZERO)
}
