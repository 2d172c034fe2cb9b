//! How text is cut into words before byte pairs are merged: `tokenizer.ggml.pre` names the way.
//!
//! The expressions are those of llama.cpp (`llm_tokenizer_bpe` in src/llama-vocab.cpp), which gives the names.

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

use super::{invalid, metadata::Metadata, unsupported};

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

/// The ways that are known. Each is a list of expressions: what one leaves whole the next may cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Words, numbers, punctuation.
    Gpt2,
    /// As `Gpt2`, and every digit by itself.
    SingleDigits,
    /// Numbers in groups of three digits; whole words are never merged from parts where the vocabulary has them.
    Llama3,
    /// As `Llama3`, but merged as usual.
    ThreeDigits,
    /// As `ThreeDigits`, but every digit by itself.
    Qwen2,
    /// As `Qwen2`, and marks belong to the letter before them.
    Qwen35,
    /// Words end where a small letter is followed by a capital one.
    Tekken,
    /// As `Tekken`, with English endings and numbers in groups of three digits.
    Gpt4o,
    /// Files that say `default`, or nothing.
    Default,
}

/// The names in files, and their ways.
const NAMES: [(&str, Way); 36] = [
    ("gpt-2", Way::Gpt2),
    ("exaone4", Way::Gpt2),
    ("phi-2", Way::Gpt2),
    ("olmo", Way::Gpt2),
    ("mpt", Way::Gpt2),
    ("trillion", Way::Gpt2),
    ("granite-docling", Way::Gpt2),
    ("smollm", Way::SingleDigits),
    ("starcoder", Way::SingleDigits),
    ("refact", Way::SingleDigits),
    ("command-r", Way::SingleDigits),
    ("codeshell", Way::SingleDigits),
    ("exaone", Way::SingleDigits),
    ("minerva-7b", Way::SingleDigits),
    ("llama-bpe", Way::Llama3),
    ("llama3", Way::Llama3),
    ("llama-v3", Way::Llama3),
    ("falcon3", Way::Llama3),
    ("falcon-h1", Way::Llama3),
    ("pixtral", Way::Llama3),
    ("midm-2.0", Way::Llama3),
    ("lfm2", Way::Llama3),
    ("smaug-bpe", Way::ThreeDigits),
    ("dbrx", Way::ThreeDigits),
    ("chatglm-bpe", Way::ThreeDigits),
    ("glm4", Way::ThreeDigits),
    ("qwen2", Way::Qwen2),
    ("stablelm2", Way::Qwen2),
    ("deepseek-r1-qwen", Way::Qwen2),
    ("megrez", Way::Qwen2),
    ("hunyuan", Way::Qwen2),
    ("qwen35", Way::Qwen35),
    ("tekken", Way::Tekken),
    ("gpt-4o", Way::Gpt4o),
    ("llama4", Way::Gpt4o),
    ("default", Way::Default),
];

impl Way {
    /// The way that a file names. Files of the time before there was more than one name none.
    ///
    /// # Errors
    /// `model-unsupported` for another one.
    pub(super) fn of(metadata: Metadata<'_>) -> Result<Self, Failure> {
        match metadata.optional_text("tokenizer.ggml.pre")? {
            Some(name) => Self::named(name),
            None => {
                tracing::warn!("the file does not say how text is split: convert the model again for better answers");
                Ok(Self::Default)
            }
        }
    }

    /// The way of this name.
    ///
    /// # Errors
    /// `model-unsupported`, with the names that are known.
    pub(super) fn named(name: &str) -> Result<Self, Failure> {
        let found = NAMES.into_iter().find(|(known, _)| *known == name);
        found.map(|(_, way)| way).ok_or_else(|| {
            let known: Vec<&str> = NAMES.into_iter().map(|(known, _)| known).collect();
            let name = super::shown(name);
            unsupported(format!("its tokenizer splits text by the rules {name:?}: known are {}", known.join(", ")))
        })
    }

    /// Whether a word that is in the vocabulary is taken whole, whatever the merges say.
    pub(super) fn ignores_merges(self) -> bool {
        matches!(self, Self::Llama3 | Self::Tekken)
    }

    /// Whether a text begins with the token of that name, where the file does not say.
    pub(super) fn begins_with_a_token(self) -> bool {
        matches!(self, Self::Llama3 | Self::Tekken)
    }

    /// The splitter.
    ///
    /// # Errors
    /// `model-invalid` if an expression cannot be compiled, which no file can cause.
    pub(super) fn splitter(self) -> Result<PreTokenizerWrapper, Failure> {
        let mut steps = Vec::new();
        for expression in self.expressions() {
            let pattern = SplitPattern::Regex((*expression).to_owned());
            let split = Split::new(pattern, Isolated, false).map_err(|cause| invalid(cause.to_string()))?;
            steps.push(PreTokenizerWrapper::Split(split));
        }
        // Without a leading space: a chat template says itself where spaces are.
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
