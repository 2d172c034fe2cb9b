//! Storage formats of weights, as in GGUF files.

/// Storage format of the weights of a matrix, named as in ggml (<https://github.com/ggml-org/ggml>, `enum ggml_type`).
///
/// The discriminant of a quantized type is the parameter of generic kernels: [`crate::layout::PackedLayout::of`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum WeightType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats of IEEE 754.
    F16,
    /// Upper 16 bits of 32-bit floats (bfloat16).
    BF16,
    /// Blocks of 32 weights: 4 bits each, one scale.
    Q4_0,
    /// Blocks of 32 weights: 4 bits each, one scale and one minimum.
    Q4_1,
    /// Blocks of 32 weights: 5 bits each, one scale.
    Q5_0,
    /// Blocks of 32 weights: 5 bits each, one scale and one minimum.
    Q5_1,
    /// Blocks of 32 weights: 8 bits each, one scale.
    Q8_0,
    /// Blocks of 256 weights: 2 bits each, a scale and a minimum for every 16.
    Q2K,
    /// Blocks of 256 weights: 3 bits each, a scale for every 16.
    Q3K,
    /// Blocks of 256 weights: 4 bits each, a scale and a minimum for every 32.
    Q4K,
    /// Blocks of 256 weights: 5 bits each, a scale and a minimum for every 32.
    Q5K,
    /// Blocks of 256 weights: 6 bits each, a scale for every 16.
    Q6K,
}

impl WeightType {
    /// All types.
    pub const ALL: [Self; 13] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// Number of weights per block. A row has whole blocks only.
    #[must_use]
    pub const fn block_size(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q2K | Self::Q3K | Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Size of a block in a file, in bytes.
    #[must_use]
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q2K => 84,
            Self::Q3K => 110,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// True for floats, false for quantized types: whole numbers with a scale.
    #[must_use]
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::BF16)
    }
}
