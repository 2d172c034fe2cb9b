//! Tokens that end an answer, found by their texts.

use std::collections::{BTreeMap, BTreeSet};

/// Tokens that end an answer, whatever the file names as its EOS token (the list of llama.cpp, src/llama-vocab.cpp).
const STOP_TOKENS: [&str; 21] = [
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
/// Stop tokens that are ordinary text in vocabularies with another stop token: a message may well contain them.
const ALSO_TEXT: [&str; 4] = ["</s>", "[EOS]", "[EOT]", "[e~["];

/// True for the text of a stop token that is never ordinary text.
pub(super) fn is_never_text(token: &str) -> bool {
    STOP_TOKENS.contains(&token) && !ALSO_TEXT.contains(&token)
}

/// Finds the stop tokens among the control tokens, given by ids and texts. Of equal texts the first counts.
pub(super) fn find<'a>(control_tokens: impl Iterator<Item = (u32, &'a str)>) -> BTreeSet<u32> {
    let mut ids: BTreeMap<&str, u32> = BTreeMap::new();
    for (id, text) in control_tokens.filter(|(_, text)| STOP_TOKENS.contains(text)) {
        ids.entry(text).or_insert(id);
    }
    // Answers of gpt-oss consist of several messages. <|end|> ends a message; <|return|> or <|call|> ends the answer.
    if ids.contains_key("<|return|>") && ids.contains_key("<|call|>") {
        ids.remove("<|end|>");
    }
    ids.into_values().collect()
}
