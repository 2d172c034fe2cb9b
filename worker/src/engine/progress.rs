//! Watches how much of a file has been read.

use std::io::{self, Read, Seek, SeekFrom};

use super::LoadProgress;

/// A reader that tells its progress, at most once for each percent.
pub(super) struct Watched<'a, R> {
    inner: R,
    told: &'a mut dyn FnMut(LoadProgress),
    done_bytes: u64,
    total_bytes: u64,
    percent: u64,
}

impl<'a, R> Watched<'a, R> {
    /// `done_bytes` of the `total_bytes` were read before.
    pub(super) fn new(inner: R, done_bytes: u64, total_bytes: u64, told: &'a mut dyn FnMut(LoadProgress)) -> Self {
        told(LoadProgress { done_bytes, total_bytes });
        Self { inner, told, done_bytes, total_bytes, percent: percent(done_bytes, total_bytes) }
    }

    fn count(&mut self, bytes: u64) {
        // Padding between tensors is never read, and nothing keeps a caller from reading twice.
        self.done_bytes = (self.done_bytes + bytes).min(self.total_bytes);
        let percent = percent(self.done_bytes, self.total_bytes);
        if percent > self.percent {
            self.percent = percent;
            (self.told)(LoadProgress { done_bytes: self.done_bytes, total_bytes: self.total_bytes });
        }
    }
}

fn percent(done: u64, total: u64) -> u64 {
    (u128::from(done) * 100 / u128::from(total.max(1))) as u64
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count(read as u64);
        Ok(read)
    }
}

impl<R: Seek> Seek for Watched<'_, R> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.inner.seek(position)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn progress_is_told_at_most_once_for_each_percent_and_never_exceeds_the_whole() {
        let mut told = Vec::new();
        let mut tell = |progress: LoadProgress| told.push(progress.done_bytes);
        let mut watched = Watched::new(Cursor::new(vec![0; 10_000]), 0, 5_000, &mut tell);
        let mut piece = [0; 7];
        while watched.read(&mut piece).expect("reads") > 0 {}
        assert!(told.len() <= 101, "{}", told.len());
        assert!(told.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(told.last(), Some(&5_000));
    }
}
