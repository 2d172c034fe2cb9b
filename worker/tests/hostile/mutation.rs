//! Deterministic mutations of a file, as damage or an attacker would make them.

/// Extreme values of counts, lengths and offsets.
const EDGES: [u64; 9] = [0, 1, 2, 9, 0xFF, 1 << 30, u32::MAX as u64, i64::MAX as u64, u64::MAX];

/// An endless iterator of mutated copies of a file.
pub(crate) struct Mutations<'a> {
    file: &'a [u8],
    /// Approximate length of the header in bytes. Mutations begin before it.
    header: usize,
    state: u64,
}

impl<'a> Mutations<'a> {
    /// Mutates a file whose header takes about two fifths of it.
    pub(crate) fn new(file: &'a [u8]) -> Self {
        Self { file, header: file.len() * 2 / 5, state: 0x9E37_79B9_7F4A_7C15 }
    }

    /// Pseudo-random number below `end`: xorshift, <https://www.jstatsoft.org/article/view/v008i14>.
    fn below(&mut self, end: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state % end.max(1) as u64) as usize
    }

    fn change(&mut self, file: &mut Vec<u8>) {
        let position = self.below(self.header.min(file.len()));
        let rest = file.len() - position;
        match self.below(7) {
            0 => file[position] = self.below(256) as u8,
            1 => file[position] ^= 1 << self.below(8),
            2 | 3 => {
                let (edge, size) = (EDGES[self.below(EDGES.len())].to_le_bytes(), rest.min(4 + 4 * self.below(2)));
                file[position..position + size].copy_from_slice(&edge[..size]);
            }
            4 => file.truncate(position),
            5 => drop(file.drain(position..position + self.below(rest.min(64)))),
            _ => {
                let copy = file[position..position + self.below(rest.min(64))].to_vec();
                file.splice(position..position, copy);
            }
        }
    }
}

impl Iterator for Mutations<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut file = self.file.to_vec();
        for _ in 0..=self.below(3) {
            if !file.is_empty() {
                self.change(&mut file);
            }
        }
        Some(file)
    }
}
