//! Weights and inputs for tests.

use half::{bf16, f16};

use crate::kind::Kind;

/// Numbers that look random and are the same each time.
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    /// One of all 64-bit numbers: splitmix64, <https://prng.di.unimi.it/splitmix64.c>.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    }

    /// Between -1 and 1.
    pub(crate) fn number(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub(crate) fn numbers(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.number()).collect()
    }

    /// A matrix as in a file: any quants, any factors, scales between -1 and 1.
    pub(crate) fn weights(&mut self, kind: Kind, rows: usize, columns: usize) -> Vec<u8> {
        let blocks = rows * columns / kind.block();
        (0..blocks).flat_map(|_| self.block(kind)).collect()
    }

    fn block(&mut self, kind: Kind) -> Vec<u8> {
        let halves: &[usize] = match kind {
            Kind::F32 => return self.number().to_le_bytes().to_vec(),
            Kind::F16 => return f16::from_f32(self.number()).to_le_bytes().to_vec(),
            Kind::BF16 => return bf16::from_f32(self.number()).to_le_bytes().to_vec(),
            Kind::Q4_0 | Kind::Q5_0 | Kind::Q8_0 => &[0],
            Kind::Q4_1 | Kind::Q5_1 | Kind::Q4K | Kind::Q5K => &[0, 2],
            Kind::Q2K => &[80, 82],
            Kind::Q3K => &[108],
            Kind::Q6K => &[208],
        };
        let mut block: Vec<u8> = (0..kind.block_bytes()).map(|_| self.bits() as u8).collect();
        for at in halves {
            block[*at..at + 2].copy_from_slice(&f16::from_f32(self.number()).to_le_bytes());
        }
        block
    }
}
