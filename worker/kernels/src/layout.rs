//! Memory layout of packed quantized weights.
//!
//! Sixteen rows of a matrix, which are sixteen outputs, form a *strip*. A strip is a sequence of *chunks* of 256 columns, of
//! which the last may be shorter. A chunk has up to eight *tiles* of 16 rows x 32 columns:
//!
//! ```text
//! chunk    scales of all its tiles | quants of tile 0 | quants of tile 1 | ...   each part aligned to 64 bytes
//! scales   for each tile: 16 scales (f16), then 16 minimums (f16) if the type has them
//!    or    16 scales (f16), 16 minimums (f16), then for each tile: 16 factors (i8) of the scales for each group of
//!          columns, then as many factors of the minimums if the type has them
//! quants   planes of 64-byte lines. Unpacked to bytes, a tile has eight lines: line g holds the columns 4g .. 4g + 4, and
//!          its byte 4r + c is row r, column 4g + c. That is the operand order of byte dot product instructions: a 32-bit
//!          lane per row, with four columns in it.
//!          8 bits   the eight lines
//!          4 bits   four lines: line l has line l in the lower halves of its bytes, line l + 4 in the upper halves
//!          2 bits   two lines: bits 2i and 2i + 1 of line l belong to line 4l + i
//!          1 bit    one line: bit i belongs to line i
//! ```
//!
//! Quants of five bits are a plane of their upper four bits and a plane of the lowest bit; six are four and two; three are
//! two and one.
//!
//! The kernels unpack quants to the top of a byte, whatever their width. So the zero of types without minimums is always
//! 128, and one correction serves them all. The sums are then too large by [`PackedLayout::quant_factor`]: it is a power of
//! two, so dividing by it at the end changes no bit of the mantissa.

use crate::weight_type::WeightType;

/// Number of rows of a strip.
pub(crate) const ROWS: usize = 16;
/// Number of columns of a tile: those of one block of quantized inputs, which have one scale.
pub(crate) const COLUMNS: usize = 32;
/// Number of tiles of a whole chunk.
pub(crate) const TILES: usize = 8;
/// Bytes of a tile after its quants have been unpacked to bytes.
pub(crate) const TILE_BYTES: usize = ROWS * COLUMNS;
/// Bytes of a line.
pub(crate) const LINE: usize = 64;

/// Properties of a quantized type that matter once it is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackedLayout {
    /// Width of a quant in bits.
    pub(crate) bits: usize,
    /// True if a tile has two groups of 16 columns with a scale each; false if all 32 columns have one scale.
    pub(crate) two_groups: bool,
    /// True if weights are `scale * quant + minimum`; false if they are `scale * (quant - half of the range)`.
    pub(crate) has_minimum: bool,
    /// True if scales are 8-bit factors of one scale for the whole chunk.
    pub(crate) has_factors: bool,
}

impl PackedLayout {
    /// Layout of the quantized [`WeightType`] with this discriminant.
    pub(crate) const fn of(weight_type: u8) -> Self {
        const fn layout(bits: usize, two_groups: bool, has_minimum: bool, has_factors: bool) -> PackedLayout {
            PackedLayout { bits, two_groups, has_minimum, has_factors }
        }
        const Q4_0: u8 = WeightType::Q4_0 as u8;
        const Q4_1: u8 = WeightType::Q4_1 as u8;
        const Q5_0: u8 = WeightType::Q5_0 as u8;
        const Q5_1: u8 = WeightType::Q5_1 as u8;
        const Q8_0: u8 = WeightType::Q8_0 as u8;
        const Q2K: u8 = WeightType::Q2K as u8;
        const Q3K: u8 = WeightType::Q3K as u8;
        const Q4K: u8 = WeightType::Q4K as u8;
        const Q5K: u8 = WeightType::Q5K as u8;
        const Q6K: u8 = WeightType::Q6K as u8;
        match weight_type {
            Q4_0 => layout(4, false, false, false),
            Q4_1 => layout(4, false, true, false),
            Q5_0 => layout(5, false, false, false),
            Q5_1 => layout(5, false, true, false),
            Q8_0 => layout(8, false, false, false),
            Q2K => layout(2, true, true, true),
            Q3K => layout(3, true, false, true),
            Q4K => layout(4, false, true, true),
            Q5K => layout(5, false, true, true),
            Q6K => layout(6, true, false, true),
            _ => panic!("floats have no packed layout"),
        }
    }

    /// Number of bits by which a quant is moved up to the top of a byte.
    pub(crate) const fn shift(self) -> usize {
        8 - self.bits
    }

    /// Factor by which unpacked quants, and so all sums, are too large: two to the power of [`PackedLayout::shift`].
    pub(crate) const fn quant_factor(self) -> f32 {
        (1u32 << self.shift()) as f32
    }

    /// Number of column groups of a tile, each with a scale.
    pub(crate) const fn groups(self) -> usize {
        if self.two_groups { 2 } else { 1 }
    }

    /// Bytes of the scales of one tile.
    pub(crate) const fn tile_scales_bytes(self) -> usize {
        let size = if self.has_factors { ROWS } else { 2 * ROWS };
        size * self.groups() * (1 + self.has_minimum as usize)
    }

    /// Offset of the scales of the first tile in a chunk: behind the scales of the whole chunk, if there are any.
    pub(crate) const fn tile_scales_offset(self) -> usize {
        if self.has_factors { 4 * ROWS } else { 0 }
    }

    /// Bytes of all scales of a chunk of `tiles` tiles.
    pub(crate) const fn scales_bytes(self, tiles: usize) -> usize {
        (self.tile_scales_offset() + tiles * self.tile_scales_bytes()).next_multiple_of(LINE)
    }

    /// Bytes of the quants of one tile.
    pub(crate) const fn tile_quants_bytes(self) -> usize {
        self.bits * LINE
    }

    /// Bytes of a chunk of `tiles` tiles.
    pub(crate) const fn chunk_bytes(self, tiles: usize) -> usize {
        self.scales_bytes(tiles) + tiles * self.tile_quants_bytes()
    }

    /// Bytes of a strip of `tiles` tiles.
    pub(crate) const fn strip_bytes(self, tiles: usize) -> usize {
        let rest = tiles % TILES;
        let last = if rest == 0 { 0 } else { self.chunk_bytes(rest) };
        tiles / TILES * self.chunk_bytes(TILES) + last
    }
}

/// Calls a function that is generic over the discriminant of a quantized type.
macro_rules! for_weight_type {
    ($weight_type:expr, $function:ident($($argument:expr),* $(,)?)) => {{
        use $crate::weight_type::WeightType;
        match $weight_type {
            WeightType::Q4_0 => $function::<{ WeightType::Q4_0 as u8 }>($($argument),*),
            WeightType::Q4_1 => $function::<{ WeightType::Q4_1 as u8 }>($($argument),*),
            WeightType::Q5_0 => $function::<{ WeightType::Q5_0 as u8 }>($($argument),*),
            WeightType::Q5_1 => $function::<{ WeightType::Q5_1 as u8 }>($($argument),*),
            WeightType::Q8_0 => $function::<{ WeightType::Q8_0 as u8 }>($($argument),*),
            WeightType::Q2K => $function::<{ WeightType::Q2K as u8 }>($($argument),*),
            WeightType::Q3K => $function::<{ WeightType::Q3K as u8 }>($($argument),*),
            WeightType::Q4K => $function::<{ WeightType::Q4K as u8 }>($($argument),*),
            WeightType::Q5K => $function::<{ WeightType::Q5K as u8 }>($($argument),*),
            WeightType::Q6K => $function::<{ WeightType::Q6K as u8 }>($($argument),*),
            WeightType::F32 | WeightType::F16 | WeightType::BF16 => unreachable!("floats are not quantized"),
        }
    }};
}
pub(crate) use for_weight_type;
