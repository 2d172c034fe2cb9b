//! Read bandwidth of this machine's memory: each token needs one read of all weights, which limits the speed.

use std::{hint::black_box, thread, time::Instant};

/// Size of the block that is read: far larger than the caches of most machines.
const BYTES: usize = 1 << 30;

/// A block of memory for repeated reads.
pub(crate) struct Memory {
    words: Vec<u64>,
    threads: usize,
}

impl Memory {
    /// Allocates a gibibyte, which `threads` threads will read.
    pub(crate) fn new(threads: usize) -> Self {
        // Zeros may all share one page.
        Self { words: (0..BYTES / 8).map(|index| index as u64).collect(), threads }
    }

    /// Bytes per second, the best of three reads.
    pub(crate) fn bandwidth(&self) -> f64 {
        (0..3).map(|_| self.read()).fold(0.0, f64::max)
    }

    fn read(&self) -> f64 {
        let begun = Instant::now();
        thread::scope(|scope| {
            for part in self.words.chunks(self.words.len().div_ceil(self.threads)) {
                scope.spawn(|| black_box(sum(part)));
            }
        });
        BYTES as f64 / begun.elapsed().as_secs_f64()
    }
}

/// Adds the words into 16 independent sums, so that no addition waits for the one before.
fn sum(words: &[u64]) -> u64 {
    let mut sums = [0_u64; 16];
    for group in words.chunks_exact(sums.len()) {
        sums.iter_mut().zip(group).for_each(|(sum, word)| *sum = sum.wrapping_add(*word));
    }
    sums.into_iter().fold(0, u64::wrapping_add)
}
