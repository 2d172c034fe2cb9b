//! Reads the blocks of quantized weights of a GGUF file. Their formats are defined by `ggml-common.h` and `ggml-quants.c` of
//! <https://github.com/ggml-org/ggml>.

use half::f16;

use crate::{
    layout::{COLUMNS, TILES},
    weight_type::WeightType,
};

/// Up to 256 columns of one row in a common form, read from one block of 256 weights or from up to eight blocks of 32.
pub(crate) struct WeightBlock {
    /// Quants by column, as unsigned numbers: 0 .. 2^bits.
    pub(crate) quants: [u8; TILES * COLUMNS],
    /// Scale of every 32 columns; with factors, only the first is used, for all columns.
    pub(crate) scales: [f16; TILES],
    /// Minimum of every 32 columns; with factors, only the first is used, for all columns.
    pub(crate) minimums: [f16; TILES],
    /// Factors of the scale, for every 16 or 32 columns.
    pub(crate) scale_factors: [i8; 2 * TILES],
    /// Factors of the minimum, for every 16 or 32 columns.
    pub(crate) minimum_factors: [i8; 2 * TILES],
}

impl WeightBlock {
    pub(crate) fn new() -> Self {
        Self {
            quants: [0; TILES * COLUMNS],
            scales: [f16::ZERO; TILES],
            minimums: [f16::ZERO; TILES],
            scale_factors: [0; 2 * TILES],
            minimum_factors: [0; 2 * TILES],
        }
    }

    /// Reads `blocks`: one block of 256 weights or up to eight blocks of 32, depending on the type.
    pub(crate) fn read(&mut self, weight_type: WeightType, blocks: &[u8]) {
        match weight_type {
            WeightType::Q4_0 => self.read_small(blocks, 18, read_q4_0),
            WeightType::Q4_1 => self.read_small(blocks, 20, read_q4_1),
            WeightType::Q5_0 => self.read_small(blocks, 22, read_q5_0),
            WeightType::Q5_1 => self.read_small(blocks, 24, read_q5_1),
            WeightType::Q8_0 => self.read_small(blocks, 34, read_q8_0),
            WeightType::Q2K => self.read_q2k(blocks),
            WeightType::Q3K => self.read_q3k(blocks),
            WeightType::Q4K => self.read_q4k(blocks),
            WeightType::Q5K => self.read_q5k(blocks),
            WeightType::Q6K => self.read_q6k(blocks),
            WeightType::F32 | WeightType::F16 | WeightType::BF16 => unreachable!("floats have no quants"),
        }
    }

    fn read_small(&mut self, blocks: &[u8], size: usize, read: fn(&[u8], &mut [u8; COLUMNS]) -> (f16, f16)) {
        let (quants, _) = self.quants.as_chunks_mut();
        for (index, (block, quants)) in blocks.chunks_exact(size).zip(quants).enumerate() {
            (self.scales[index], self.minimums[index]) = read(block, quants);
        }
    }

    /// Block of 84 bytes: 16 bytes of factors (scale in the lower half, minimum in the upper), 64 bytes of 2-bit quants, the
    /// scale (f16), the minimum (f16).
    fn read_q2k(&mut self, block: &[u8]) {
        self.scales[0] = read_f16(block, 80);
        self.minimums[0] = -read_f16(block, 82);
        for (index, byte) in block[..16].iter().enumerate() {
            self.scale_factors[index] = (byte & 15) as i8;
            self.minimum_factors[index] = (byte >> 4) as i8;
        }
        self.read_2_bit_fields(&block[16..80], 0);
    }

    /// Block of 110 bytes: 32 bytes of third bits, 64 bytes of the lower 2 bits, 12 bytes of 6-bit factors (32 is zero), the
    /// scale (f16).
    fn read_q3k(&mut self, block: &[u8]) {
        self.scales[0] = read_f16(block, 108);
        let packed = &block[96..108];
        for index in 0..16 {
            // Bytes 0 .. 8 hold the lower four bits of the factors, bytes 8 .. 12 the upper two.
            let low = packed[index % 8] >> (4 * (index / 8)) & 15;
            let high = packed[8 + index % 4] >> (2 * (index / 4)) & 3;
            self.scale_factors[index] = (low | high << 4) as i8 - 32;
        }
        self.read_2_bit_fields(&block[32..96], 0);
        for (index, quant) in self.quants.iter_mut().enumerate() {
            *quant |= (block[index % 32] >> (index / 32) & 1) << 2;
        }
    }

    /// Block of 144 bytes: the scale (f16), the minimum (f16), 12 bytes of 6-bit factors, 128 bytes of 4-bit quants.
    fn read_q4k(&mut self, block: &[u8]) {
        self.read_6_bit_factors(block);
        self.read_4_bit_fields(&block[16..144]);
    }

    /// Block of 176 bytes: as Q4K, with 32 bytes of fifth bits before the quants.
    fn read_q5k(&mut self, block: &[u8]) {
        self.read_6_bit_factors(block);
        self.read_4_bit_fields(&block[48..176]);
        let high = &block[16..48];
        for (tile, quants) in self.quants.as_chunks_mut::<COLUMNS>().0.iter_mut().enumerate() {
            for (quant, high) in quants.iter_mut().zip(high) {
                *quant |= (high >> tile & 1) << 4;
            }
        }
    }

    /// Block of 210 bytes: 128 bytes of the lower 4 bits, 64 bytes of the upper 2 bits, 16 factors (i8), the scale (f16).
    fn read_q6k(&mut self, block: &[u8]) {
        self.scales[0] = read_f16(block, 208);
        for (factor, byte) in self.scale_factors.iter_mut().zip(&block[192..208]) {
            *factor = byte.cast_signed();
        }
        self.read_2_bit_fields(&block[128..192], 4);
        let (low, _) = block[..128].as_chunks::<64>();
        for (low, quants) in low.iter().zip(self.quants.as_chunks_mut::<128>().0) {
            let (first, second) = quants.split_at_mut(64);
            for ((low, first), second) in low.iter().zip(first).zip(second) {
                *first |= low & 15;
                *second |= low >> 4;
            }
        }
    }

    /// Reads fields of 2 bits to bit `shift` of the quants. 32 bytes hold 128 columns; a byte holds four that are 32 apart.
    fn read_2_bit_fields(&mut self, bytes: &[u8], shift: u32) {
        let (bytes, _) = bytes.as_chunks::<32>();
        for (bytes, quants) in bytes.iter().zip(self.quants.as_chunks_mut::<128>().0) {
            for (field, quants) in quants.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                for (quant, byte) in quants.iter_mut().zip(bytes) {
                    *quant = (byte >> (2 * field) & 3) << shift;
                }
            }
        }
    }

    /// Reads fields of 4 bits. 32 bytes hold 64 columns; a byte holds two that are 32 apart.
    fn read_4_bit_fields(&mut self, bytes: &[u8]) {
        let (bytes, _) = bytes.as_chunks::<32>();
        for (bytes, quants) in bytes.iter().zip(self.quants.as_chunks_mut::<64>().0) {
            split_nibbles(bytes, quants);
        }
    }

    /// Reads scale and minimum, and eight factors of 6 bits for each in 12 bytes. The first four scales are the lower six
    /// bits of bytes 0 .. 4, the first four minimums those of bytes 4 .. 8. The other factors have their lower four bits in
    /// bytes 8 .. 12 and their upper two above the first ones.
    fn read_6_bit_factors(&mut self, block: &[u8]) {
        self.scales[0] = read_f16(block, 0);
        self.minimums[0] = -read_f16(block, 2);
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

fn read_f16(bytes: &[u8], at: usize) -> f16 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Writes the lower halves of all bytes, then the upper halves.
fn split_nibbles(bytes: &[u8], quants: &mut [u8]) {
    let (low, high) = quants.split_at_mut(bytes.len());
    for ((byte, low), high) in bytes.iter().zip(low).zip(high) {
        *low = byte & 15;
        *high = byte >> 4;
    }
}

/// Adds the fifth bits of 32 quants, which are the bits of a little-endian word.
fn add_fifth_bits(bits: &[u8], quants: &mut [u8; COLUMNS]) {
    let bits = u32::from_le_bytes([bits[0], bits[1], bits[2], bits[3]]);
    for (index, quant) in quants.iter_mut().enumerate() {
        *quant |= ((bits >> index & 1) << 4) as u8;
    }
}

fn read_q4_0(block: &[u8], quants: &mut [u8; COLUMNS]) -> (f16, f16) {
    split_nibbles(&block[2..18], quants);
    (read_f16(block, 0), f16::ZERO)
}

fn read_q4_1(block: &[u8], quants: &mut [u8; COLUMNS]) -> (f16, f16) {
    split_nibbles(&block[4..20], quants);
    (read_f16(block, 0), read_f16(block, 2))
}

fn read_q5_0(block: &[u8], quants: &mut [u8; COLUMNS]) -> (f16, f16) {
    split_nibbles(&block[6..22], quants);
    add_fifth_bits(&block[2..6], quants);
    (read_f16(block, 0), f16::ZERO)
}

fn read_q5_1(block: &[u8], quants: &mut [u8; COLUMNS]) -> (f16, f16) {
    split_nibbles(&block[8..24], quants);
    add_fifth_bits(&block[4..8], quants);
    (read_f16(block, 0), read_f16(block, 2))
}

fn read_q8_0(block: &[u8], quants: &mut [u8; COLUMNS]) -> (f16, f16) {
    for (quant, byte) in quants.iter_mut().zip(&block[2..34]) {
        // From signed to unsigned: zero becomes 128.
        *quant = byte ^ 128;
    }
    (read_f16(block, 0), f16::ZERO)
}
