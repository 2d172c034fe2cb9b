//! The tokens of a model and what each of them is, from a GGUF file's metadata.

use std::collections::BTreeSet;

use rbee_schema::Failure;

use super::{alphabet, invalid, metadata::Metadata, sentence_piece::SPACE};

/// Tokens that end an answer, whatever a file calls its end (the list of llama.cpp, src/llama-vocab.cpp).
const ENDS: [&str; 21] = [
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
    "<|flush|>",
    "<end_of_turn>",
    "<turn|>",
    "<end_of_utterance>",
    "<｜end▁of▁sentence｜>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "[e~[",
    "<eos>",
    "</s>",
];
/// Ends that are ordinary text in vocabularies which have another one: tags and words that somebody may well write.
const ALSO_TEXT: [&str; 4] = ["</s>", "[EOS]", "[EOT]", "[e~["];

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A piece of text, of which merges make use.
    Text,
    /// Found by its text.
    Added,
    /// For the model and its template alone.
    Control,
    /// Stands for one byte.
    Byte(u8),
    /// Stands for nothing.
    Unused,
}

/// How tokens write the bytes that they stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writing {
    /// A character for each byte.
    Alphabet,
    /// As text, with U+2581 for a space.
    Text,
}

/// All tokens, by their ids.
pub(super) struct Vocabulary<'a> {
    /// How they are written.
    pub(super) tokens: Vec<&'a str>,
    /// What they are.
    pub(super) kinds: Vec<Kind>,
    /// How their bytes are written.
    pub(super) writing: Writing,
    /// The token with which texts begin.
    pub(super) begin: Option<u32>,
    /// The token with which texts end.
    pub(super) end: Option<u32>,
    /// Tokens with which answers end.
    pub(super) ends: BTreeSet<u32>,
}

impl<'a> Vocabulary<'a> {
    /// From the metadata of a file.
    ///
    /// # Errors
    /// `model-invalid` for one that contradicts itself.
    pub(super) fn from_metadata(metadata: Metadata<'a>, writing: Writing) -> Result<Self, Failure> {
        let tokens = metadata.texts("tokenizer.ggml.tokens")?;
        let types = metadata.counts("tokenizer.ggml.token_type")?;
        if types.len() != tokens.len() {
            let (tokens, types) = (tokens.len(), types.len());
            return Err(invalid(format!("its tokenizer has {tokens} tokens and {types} token types")));
        }
        let kinds = tokens.iter().zip(types).map(|(token, kind)| kind_of(token, kind, writing));
        let kinds = kinds.collect::<Result<Vec<Kind>, Failure>>()?;
        let named = |key: &str| named_token(metadata, key, tokens.len());
        let (begin, end) = (named("tokenizer.ggml.bos_token_id")?, named("tokenizer.ggml.eos_token_id")?);
        let others = [named("tokenizer.ggml.eot_token_id")?, named("tokenizer.ggml.eom_token_id")?];
        Ok(Self::new(tokens, kinds, writing, begin, end).ending_with(others.into_iter().flatten()))
    }

    /// From tokens and what they are, which are as many.
    pub(super) fn new(
        tokens: Vec<&'a str>,
        mut kinds: Vec<Kind>,
        writing: Writing,
        begin: Option<u32>,
        end: Option<u32>,
    ) -> Self {
        for (token, kind) in tokens.iter().zip(&mut kinds) {
            // Some converters say of the end of a turn that it is text; then anybody could write it.
            if matches!(kind, Kind::Text | Kind::Added) && ENDS.contains(token) && !ALSO_TEXT.contains(token) {
                *kind = Kind::Control;
            }
        }
        let ends = ends(&tokens, &kinds);
        Self { tokens, kinds, writing, begin, end, ends }.ending_with(end)
    }

    /// With further tokens that end an answer.
    pub(super) fn ending_with(mut self, ids: impl IntoIterator<Item = u32>) -> Self {
        self.ends.extend(ids);
        self
    }

    /// Ids, texts and kinds.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, (&'a str, Kind))> {
        (0..).zip(self.tokens.iter().copied().zip(self.kinds.iter().copied()))
    }

    /// Texts and ids of the tokens of a kind.
    pub(super) fn of_kind(&self, wanted: Kind) -> impl Iterator<Item = (String, u32)> {
        self.iter().filter(move |(_, (_, kind))| *kind == wanted).map(|(id, (text, _))| (text.to_owned(), id))
    }

    /// The bytes that each token stands for.
    pub(super) fn pieces(&self) -> Vec<Box<[u8]>> {
        self.iter().map(|(_, (token, kind))| piece(token, kind, self.writing)).collect()
    }

    /// The text of a token that may not be there.
    pub(super) fn text(&self, id: Option<u32>) -> &'a str {
        id.and_then(|id| self.tokens.get(id as usize).copied()).unwrap_or_default()
    }
}

/// The values of `tokenizer.ggml.token_type`.
fn kind_of(token: &str, kind: u32, writing: Writing) -> Result<Kind, Failure> {
    match kind {
        1 => Ok(Kind::Text),
        // The token for what is unknown is the model's own, too.
        2 | 3 => Ok(Kind::Control),
        4 => Ok(Kind::Added),
        5 => Ok(Kind::Unused),
        // Where each byte has its character, there is no need for further ones.
        6 if writing == Writing::Alphabet => Ok(Kind::Text),
        6 => byte(token).map(Kind::Byte).ok_or_else(|| {
            let token = super::shown(token);
            invalid(format!("its tokenizer has a token for a byte, {token:?}: expected such as <0x0A>"))
        }),
        other => Err(invalid(format!("its tokenizer has a token of the type {other}"))),
    }
}

/// The byte that a token such as `<0x0A>` stands for.
pub(super) fn byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    // The parser alone would take a sign for a digit.
    let plain = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    plain.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

fn named_token(metadata: Metadata<'_>, key: &str, tokens: usize) -> Result<Option<u32>, Failure> {
    match metadata.optional_count(key)? {
        Some(id) if id as usize >= tokens => {
            Err(invalid(format!("{key} in its header is {id}, but there are {tokens} tokens")))
        }
        id => Ok(id),
    }
}

fn ends(tokens: &[&str], kinds: &[Kind]) -> BTreeSet<u32> {
    let id_of = |text: &str| {
        let found = tokens.iter().zip(kinds).position(|(token, kind)| *kind == Kind::Control && *token == text);
        found.map(|id| id as u32)
    };
    let mut ends: BTreeSet<u32> = ENDS.iter().filter_map(|text| id_of(text)).collect();
    // Where answers have parts, each of which ends with this token, the answer ends with another one.
    let parts = ["<|return|>", "<|call|>"].map(id_of);
    if parts.iter().all(Option::is_some)
        && let Some(end_of_part) = id_of("<|end|>")
    {
        ends.remove(&end_of_part);
    }
    ends
}

fn piece(token: &str, kind: Kind, writing: Writing) -> Box<[u8]> {
    match (kind, writing) {
        (Kind::Text, Writing::Alphabet) => alphabet::bytes_of(token).into(),
        (Kind::Text, Writing::Text) => token.replace(SPACE, " ").into_bytes().into(),
        (Kind::Added, _) => token.as_bytes().into(),
        (Kind::Byte(byte), _) => [byte].into(),
        (Kind::Control | Kind::Unused, _) => Box::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_end_with_what_the_model_was_trained_to_write_last() {
        let check = |tokens: &[&'static str], kind: Kind, end: Option<u32>, expected: &[u32]| {
            let vocabulary = Vocabulary::new(tokens.to_vec(), vec![kind; tokens.len()], Writing::Text, None, end);
            assert_eq!(Vec::from_iter(vocabulary.ends), expected, "{tokens:?}");
        };
        check(&["<s>", "</s>"], Kind::Control, None, &[1]);
        check(&["<bos>", "<eos>", "<end_of_turn>"], Kind::Control, Some(1), &[1, 2]);
        check(&["<|end|>", "<|return|>", "<|call|>"], Kind::Control, Some(1), &[1, 2]);
        check(&["<|end|>", "<|return|>"], Kind::Control, None, &[0, 1]);
        check(&["a", "</s>", "<|im_end|>"], Kind::Text, Some(0), &[0, 2]);
    }

    #[test]
    fn the_end_of_a_turn_is_never_text() {
        let vocabulary =
            Vocabulary::new(vec!["<|im_end|>", "</s>", "a"], vec![Kind::Added; 3], Writing::Text, None, None);
        assert_eq!(vocabulary.kinds, [Kind::Control, Kind::Added, Kind::Added]);
    }

    #[test]
    fn tokens_stand_for_bytes() {
        for (token, expected) in
            [("<0x0A>", Some(10)), ("<0xFf>", Some(255)), ("<0x0>", None), ("<0x+A>", None), ("a", None)]
        {
            assert_eq!(byte(token), expected, "{token}");
        }
        assert_eq!(piece("▁bee▁", Kind::Text, Writing::Text).as_ref(), b" bee ");
        assert_eq!(piece("Ġbee", Kind::Text, Writing::Alphabet).as_ref(), b" bee");
    }
}
