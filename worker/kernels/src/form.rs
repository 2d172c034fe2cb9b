//! How quantised weights stand in memory.
//!
//! Sixteen rows of a matrix, which are sixteen outputs, make a *strip*. A strip is a sequence of *chunks* of 256 columns,
//! the last one maybe shorter, and a chunk has up to eight *tiles* of 16 rows x 32 columns:
//!
//! ```text
//! chunk    scales of all its tiles | quants of tile 0 | quants of tile 1 | ...   each part from a multiple of 64 bytes
//! scales   for each tile: 16 scales (f16), then 16 minimums (f16) where the form has them
//!    or    16 scales (f16), 16 minimums (f16), then for each tile: 16 factors (i8) of the scales for each group of
//!          columns, then as many factors of the minimums where the form has them
//! quants   planes of 64-byte lines. Eight lines of bytes make a tile: line g has the columns 4g .. 4g + 4, and in it byte
//!          4r + c is row r, column 4g + c. That is the order which dot products of bytes want: four columns in each
//!          32-bit lane, one row in each lane.
//!          8 bits   the eight lines
//!          4 bits   four lines: line l has line l in the lower halves of its bytes, line l + 4 in the upper halves
//!          2 bits   two lines: bits 2i and 2i + 1 of line l are of line 4l + i
//!          1 bit    one line: bit i is of line i
//! ```
//!
//! Five bits are a plane of their upper four and a plane of the lowest one; six are four and two; three are two and one.
//!
//! Kernels bring quants to the top of a byte, whatever their width, so that zero is always 128 in forms without minimums.
//! Their sums are thus too large by [`Form::excess`], a power of two, which leaves the sums' bits the same.

use crate::kind::Kind;

/// How many rows a strip has.
pub(crate) const ROWS: usize = 16;
/// How many columns a tile has: as many as share a scale of the inputs.
pub(crate) const COLUMNS: usize = 32;
/// How many tiles a chunk has.
pub(crate) const TILES: usize = 8;
/// Bytes of a tile whose quants have become bytes.
pub(crate) const TILE_BYTES: usize = ROWS * COLUMNS;
/// Bytes of a line.
pub(crate) const LINE: usize = 64;

/// What is different between the kinds of quantised weights once they are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    /// The width of a quant.
    pub(crate) bits: usize,
    /// Whether each 16 columns have a scale, not each 32.
    pub(crate) halves: bool,
    /// Whether weights are `scale * quant + minimum`, not `scale * (quant - half of the range)`.
    pub(crate) minimum: bool,
    /// Whether scales are 8-bit factors of a scale for the whole chunk.
    pub(crate) factors: bool,
}

impl Form {
    /// The form of the quantised kind with this number.
    pub(crate) const fn of(kind: u8) -> Self {
        const fn form(bits: usize, halves: bool, minimum: bool, factors: bool) -> Form {
            Form { bits, halves, minimum, factors }
        }
        const Q4_0: u8 = Kind::Q4_0 as u8;
        const Q4_1: u8 = Kind::Q4_1 as u8;
        const Q5_0: u8 = Kind::Q5_0 as u8;
        const Q5_1: u8 = Kind::Q5_1 as u8;
        const Q8_0: u8 = Kind::Q8_0 as u8;
        const Q2K: u8 = Kind::Q2K as u8;
        const Q3K: u8 = Kind::Q3K as u8;
        const Q4K: u8 = Kind::Q4K as u8;
        const Q5K: u8 = Kind::Q5K as u8;
        const Q6K: u8 = Kind::Q6K as u8;
        match kind {
            Q4_0 => form(4, false, false, false),
            Q4_1 => form(4, false, true, false),
            Q5_0 => form(5, false, false, false),
            Q5_1 => form(5, false, true, false),
            Q8_0 => form(8, false, false, false),
            Q2K => form(2, true, true, true),
            Q3K => form(3, true, false, true),
            Q4K => form(4, false, true, true),
            Q5K => form(5, false, true, true),
            Q6K => form(6, true, false, true),
            _ => panic!("floats have no form"),
        }
    }

    /// How far quants are moved up to the top of a byte.
    pub(crate) const fn shift(self) -> usize {
        8 - self.bits
    }

    /// How much too large the sums are: two to the power of [`Form::shift`].
    pub(crate) const fn excess(self) -> f32 {
        (1u32 << self.shift()) as f32
    }

    /// How many scales a row of a tile has.
    pub(crate) const fn groups(self) -> usize {
        if self.halves { 2 } else { 1 }
    }

    /// Bytes from the scales of a tile to those of the next one.
    pub(crate) const fn scales_step(self) -> usize {
        let size = if self.factors { ROWS } else { 2 * ROWS };
        size * self.groups() * (1 + self.minimum as usize)
    }

    /// Where the scales of the first tile begin in a chunk: behind those of the whole chunk, if there are.
    pub(crate) const fn scales_start(self) -> usize {
        if self.factors { 4 * ROWS } else { 0 }
    }

    /// Bytes of the scales of a chunk of `tiles` tiles.
    pub(crate) const fn scales_bytes(self, tiles: usize) -> usize {
        (self.scales_start() + tiles * self.scales_step()).next_multiple_of(LINE)
    }

    /// Bytes of the quants of a tile.
    pub(crate) const fn quants_bytes(self) -> usize {
        self.bits * LINE
    }

    /// Bytes of a chunk of `tiles` tiles.
    pub(crate) const fn chunk_bytes(self, tiles: usize) -> usize {
        self.scales_bytes(tiles) + tiles * self.quants_bytes()
    }

    /// Bytes of a strip of `tiles` tiles.
    pub(crate) const fn strip_bytes(self, tiles: usize) -> usize {
        let rest = tiles % TILES;
        let last = if rest == 0 { 0 } else { self.chunk_bytes(rest) };
        tiles / TILES * self.chunk_bytes(TILES) + last
    }
}

/// Calls a function that is generic over the number of a quantised kind.
macro_rules! for_kind {
    ($kind:expr, $function:ident($($argument:expr),* $(,)?)) => {{
        use $crate::kind::Kind;
        match $kind {
            Kind::Q4_0 => $function::<{ Kind::Q4_0 as u8 }>($($argument),*),
            Kind::Q4_1 => $function::<{ Kind::Q4_1 as u8 }>($($argument),*),
            Kind::Q5_0 => $function::<{ Kind::Q5_0 as u8 }>($($argument),*),
            Kind::Q5_1 => $function::<{ Kind::Q5_1 as u8 }>($($argument),*),
            Kind::Q8_0 => $function::<{ Kind::Q8_0 as u8 }>($($argument),*),
            Kind::Q2K => $function::<{ Kind::Q2K as u8 }>($($argument),*),
            Kind::Q3K => $function::<{ Kind::Q3K as u8 }>($($argument),*),
            Kind::Q4K => $function::<{ Kind::Q4K as u8 }>($($argument),*),
            Kind::Q5K => $function::<{ Kind::Q5K as u8 }>($($argument),*),
            Kind::Q6K => $function::<{ Kind::Q6K as u8 }>($($argument),*),
            Kind::F32 | Kind::F16 | Kind::BF16 => unreachable!("floats are not quantised"),
        }
    }};
}
pub(crate) use for_kind;
