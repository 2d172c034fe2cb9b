//! How fast this machine reads memory: no token can be made faster than the weights are read once.

use std::{hint::black_box, thread, time::Instant};

/// Far more than the caches of most machines hold.
const BYTES: usize = 1 << 30;

/// Memory that is read again and again.
pub(crate) struct Memory {
    words: Vec<u64>,
    threads: usize,
}

impl Memory {
    /// A gibibyte, which `threads` threads read.
    pub(crate) fn new(threads: usize) -> Self {
        // Not zeros: those may all be one page.
        Self { words: (0..BYTES / 8).map(|index| index as u64).collect(), threads }
    }

    /// Bytes per second, the best of three times.
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

/// Several sums at a time, so that no addition waits for the one before.
fn sum(words: &[u64]) -> u64 {
    let mut sums = [0_u64; 16];
    for group in words.chunks_exact(sums.len()) {
        sums.iter_mut().zip(group).for_each(|(sum, word)| *sum = sum.wrapping_add(*word));
    }
    sums.into_iter().fold(0, u64::wrapping_add)
}
