//! Pre-tokenizers: the rules by which text is split into words before byte pairs are merged (`tokenizer.ggml.pre`).
//!
//! Expressions and names are those of llama.cpp (`llm_tokenizer_bpe` in src/llama-vocab.cpp).

use rbee_schema::Failure;
use tokenizers::{
    SplitDelimiterBehavior::Isolated,
    pre_tokenizers::{
        PreTokenizerWrapper,
        byte_level::ByteLevel,
        sequence::Sequence,
        split::{Split, SplitPattern},
    },
};

use crate::model_file::{
    error::{invalid, printable, unsupported},
    gguf::Metadata,
};

const GPT_2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";
const LLAMA_3: &str = concat!(
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])",
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const QWEN_2: &str = concat!(
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])",
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const QWEN_3_5: &str = concat!(
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])",
    r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))*((?=[\p{L}])([^A-Z]))+",
    r"|[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))+((?=[\p{L}])([^A-Z]))*",
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const GPT_4O: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))*((?=[\p{L}])([^A-Z]))+",
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?",
    r"|[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))+((?=[\p{L}])([^A-Z]))*",
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?",
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// The supported pre-tokenizers. Each is a list of expressions: the next one may split what the previous one left whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PreTokenizer {
    /// Words, numbers, punctuation.
    Gpt2,
    /// As `Gpt2`, with every digit apart.
    SingleDigits,
    /// Numbers in groups of three digits. A word in the vocabulary becomes one token without merging.
    Llama3,
    /// As `Llama3`, with all words merged.
    ThreeDigits,
    /// As `ThreeDigits`, with every digit apart.
    Qwen2,
    /// As `Qwen2`; combining marks belong to the letter before them.
    Qwen35,
    /// Words end where a lowercase letter is followed by an uppercase one.
    Tekken,
    /// As `Tekken`, with English endings and numbers in groups of three digits.
    Gpt4o,
    /// Files that name `default`, or nothing.
    Default,
}

/// Pre-tokenizers by their names in files.
const NAMES: [(&str, PreTokenizer); 36] = [
    ("gpt-2", PreTokenizer::Gpt2),
    ("exaone4", PreTokenizer::Gpt2),
    ("phi-2", PreTokenizer::Gpt2),
    ("olmo", PreTokenizer::Gpt2),
    ("mpt", PreTokenizer::Gpt2),
    ("trillion", PreTokenizer::Gpt2),
    ("granite-docling", PreTokenizer::Gpt2),
    ("smollm", PreTokenizer::SingleDigits),
    ("starcoder", PreTokenizer::SingleDigits),
    ("refact", PreTokenizer::SingleDigits),
    ("command-r", PreTokenizer::SingleDigits),
    ("codeshell", PreTokenizer::SingleDigits),
    ("exaone", PreTokenizer::SingleDigits),
    ("minerva-7b", PreTokenizer::SingleDigits),
    ("llama-bpe", PreTokenizer::Llama3),
    ("llama3", PreTokenizer::Llama3),
    ("llama-v3", PreTokenizer::Llama3),
    ("falcon3", PreTokenizer::Llama3),
    ("falcon-h1", PreTokenizer::Llama3),
    ("pixtral", PreTokenizer::Llama3),
    ("midm-2.0", PreTokenizer::Llama3),
    ("lfm2", PreTokenizer::Llama3),
    ("smaug-bpe", PreTokenizer::ThreeDigits),
    ("dbrx", PreTokenizer::ThreeDigits),
    ("chatglm-bpe", PreTokenizer::ThreeDigits),
    ("glm4", PreTokenizer::ThreeDigits),
    ("qwen2", PreTokenizer::Qwen2),
    ("stablelm2", PreTokenizer::Qwen2),
    ("deepseek-r1-qwen", PreTokenizer::Qwen2),
    ("megrez", PreTokenizer::Qwen2),
    ("hunyuan", PreTokenizer::Qwen2),
    ("qwen35", PreTokenizer::Qwen35),
    ("tekken", PreTokenizer::Tekken),
    ("gpt-4o", PreTokenizer::Gpt4o),
    ("llama4", PreTokenizer::Gpt4o),
    ("default", PreTokenizer::Default),
];

impl PreTokenizer {
    /// Reads the pre-tokenizer that a file names. Files from before there was a choice name none.
    ///
    /// # Errors
    /// `model-unsupported` for an unknown name.
    pub(super) fn from_metadata(metadata: Metadata<'_>) -> Result<Self, Failure> {
        match metadata.optional_text("tokenizer.ggml.pre")? {
            Some(name) => Self::from_name(name),
            None => {
                tracing::warn!("the model file names no pre-tokenizer: convert the model again for better answers");
                Ok(Self::Default)
            }
        }
    }

    /// Finds a pre-tokenizer by its name.
    ///
    /// # Errors
    /// `model-unsupported`, with the names that are supported.
    fn from_name(name: &str) -> Result<Self, Failure> {
        let found = NAMES.into_iter().find(|(known, _)| *known == name);
        found.map(|(_, pre_tokenizer)| pre_tokenizer).ok_or_else(|| {
            let known: Vec<&str> = NAMES.into_iter().map(|(known, _)| known).collect();
            let name = printable(name);
            unsupported(format!("the pre-tokenizer is {name:?}: supported are {}", known.join(", ")))
        })
    }

    /// True if a word in the vocabulary becomes one token without merging.
    pub(super) fn ignores_merges(self) -> bool {
        matches!(self, Self::Llama3 | Self::Tekken)
    }

    /// Default of `add_bos_token`: true if texts begin with the BOS token when the file does not say.
    pub(super) fn adds_bos_token(self) -> bool {
        matches!(self, Self::Llama3 | Self::Tekken)
    }

    /// Builds the pre-tokenizer.
    ///
    /// # Errors
    /// `model-invalid` if an expression does not compile, which no file can cause.
    pub(super) fn build(self) -> Result<PreTokenizerWrapper, Failure> {
        let mut steps = Vec::new();
        for expression in self.expressions() {
            let pattern = SplitPattern::Regex((*expression).to_owned());
            let split = Split::new(pattern, Isolated, false).map_err(|cause| invalid(cause.to_string()))?;
            steps.push(PreTokenizerWrapper::Split(split));
        }
        // No leading space: the chat template writes all spaces itself.
        steps.push(PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, false, false)));
        Ok(PreTokenizerWrapper::Sequence(Sequence::new(steps)))
    }

    fn expressions(self) -> &'static [&'static str] {
        match self {
            Self::Gpt2 => &[GPT_2],
            Self::SingleDigits => &[r"\p{N}", GPT_2],
            Self::Llama3 | Self::ThreeDigits => &[LLAMA_3],
            Self::Qwen2 => &[QWEN_2],
            Self::Qwen35 => &[QWEN_3_5],
            Self::Tekken => &[TEKKEN],
            Self::Gpt4o => &[GPT_4O],
            Self::Default => &[r"[\p{P}\$\+<=>\^~\|]+", GPT_2, r"\p{N}+", "[0-9][0-9][0-9]"],
        }
    }
}
