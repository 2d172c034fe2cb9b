//! The answer to one job while it grows: its tokens, the parts of it that are final, and its end.
//!
//! An answer depends on its tokens alone. A worker that continues the answer of another one replays the stored tokens, and
//! then has the same state as that worker had.

use rbee_schema::{CalledFunction, Chunk, FinishReason, JobId, TokenLogprob, ToolCall, ToolKind, Usage};

use crate::decide::{
    assembler::Assembler,
    output_parser::{ExpectedOutput, OutputParser, OutputPart},
    stored::Released,
    tool_call::{ParsedCall, call_id},
};

/// Properties of an answer that are known before its first token.
#[derive(Debug, Clone)]
pub struct AnswerSpec {
    /// Job of the answer.
    pub job: JobId,
    /// Stop strings. They end the answer wherever they occur, also in reasoning and in tool calls.
    pub stops: Vec<String>,
    /// Tokens that end the answer.
    pub eos_tokens: Vec<u32>,
    /// Parts that the answer may have.
    pub expected: ExpectedOutput,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Maximum number of tokens of the answer.
    pub limit: u32,
}

/// The answer to one job.
#[derive(Debug, Clone)]
pub struct Answer {
    job: JobId,
    /// Turns tokens into parts, until the answer is complete.
    reading: Option<(Assembler, OutputParser)>,
    eos_tokens: Vec<u32>,
    prompt_tokens: u32,
    limit: u32,
    /// Index of the next token.
    index: u32,
    /// Number of tool calls so far.
    calls: usize,
    finished: Option<FinishReason>,
    /// Output since the last [`Answer::take`].
    new: NewOutput,
}

#[derive(Debug, Clone, Default)]
struct NewOutput {
    ids: Vec<u32>,
    text: String,
    reasoning: String,
    calls: Vec<ToolCall>,
    logprobs: Vec<TokenLogprob>,
}

/// Maximum number of tokens with log-probabilities in a chunk. Each takes up to 2 kB, and a message may have 516 KiB.
const MAX_LOGPROBS: usize = 128;

/// Maximum number of tokens in a chunk. Each takes up to 7 bytes.
const MAX_TOKENS: usize = 4096;

/// Maximum bytes of text, reasoning and calls in a chunk, unless one call alone has more. JSON takes up to six bytes for one.
const MAX_BYTES: usize = 32 * 1024;

impl Answer {
    /// An answer without tokens.
    pub fn new(spec: AnswerSpec) -> Self {
        let AnswerSpec { job, stops, eos_tokens, expected, prompt_tokens, limit } = spec;
        Self {
            job,
            reading: Some((Assembler::new(stops), OutputParser::new(expected))),
            eos_tokens,
            prompt_tokens,
            limit,
            index: 0,
            calls: 0,
            finished: None,
            new: NewOutput::default(),
        }
    }

    /// Replays the stored tokens of earlier attempts, as ids and bytes. `stored` is the amount that their chunks have released.
    /// Text that the tokens release beyond that amount is not stored yet; [`Answer::take`] returns it next.
    pub fn resume<'a>(&mut self, tokens: impl IntoIterator<Item = (u32, &'a [u8])>, stored: Released) {
        for (id, bytes) in tokens {
            self.push(id, bytes, None);
        }
        // More is stored than the tokens alone release: the answer was complete, and its held back end was released.
        if !stored.is_within(self.new.released()) && self.finished.is_none() {
            self.finish(FinishReason::Stop);
        }
        self.new = std::mem::take(&mut self.new).after(stored);
    }

    /// Adds the next token, with its bytes, and its log-probability if the request asks for it. A token that ends the answer
    /// is not part of it. Does nothing if the answer is complete.
    pub fn push(&mut self, id: u32, bytes: &[u8], logprob: Option<TokenLogprob>) {
        if self.finished.is_some() {
            return;
        }
        if self.eos_tokens.contains(&id) {
            return self.finish(FinishReason::Stop);
        }
        let Some((assembler, parser)) = &mut self.reading else { return };
        let released = assembler.push(bytes);
        let parts = parser.push(&released.text);
        let is_over = released.stopped || parser.is_over();
        self.new.ids.push(id);
        self.new.logprobs.extend(logprob);
        self.index += 1;
        self.add(parts);
        if is_over {
            self.finish(FinishReason::Stop);
        } else if self.index >= self.limit {
            self.finish(FinishReason::Length);
        }
    }

    fn finish(&mut self, reason: FinishReason) {
        if let Some((assembler, mut parser)) = self.reading.take() {
            let mut parts = parser.push(&assembler.finish());
            parts.extend(parser.finish());
            self.add(parts);
        }
        let has_called = self.calls > 0 && reason == FinishReason::Stop;
        self.finished = Some(if has_called { FinishReason::ToolCalls } else { reason });
    }

    fn add(&mut self, parts: Vec<OutputPart>) {
        for part in parts {
            match part {
                OutputPart::Text(text) => self.new.text.push_str(&text),
                OutputPart::Reasoning(text) => self.new.reasoning.push_str(&text),
                OutputPart::Call(ParsedCall { name, arguments }) => {
                    let id = call_id(&self.job, self.calls);
                    let function = CalledFunction { name, arguments };
                    self.new.calls.push(ToolCall { id, r#type: ToolKind::Function, function });
                    self.calls += 1;
                }
            }
        }
    }

    /// Ends the answer with what there is, because its deadline has come. Does nothing if the answer is complete.
    pub fn cut(&mut self) {
        if self.finished.is_none() {
            self.finish(FinishReason::Deadline);
        }
    }

    /// Tokens of the prompt.
    pub fn prompt_tokens(&self) -> u32 {
        self.prompt_tokens
    }

    /// Index of the next token.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Number of tokens that the answer may still have.
    pub fn left(&self) -> u32 {
        self.limit.saturating_sub(self.index)
    }

    /// True if the answer is complete.
    pub fn is_finished(&self) -> bool {
        self.finished.is_some()
    }

    /// True if the new output must be taken before another token is added.
    pub fn is_full(&self) -> bool {
        self.new.logprobs.len() >= MAX_LOGPROBS
            || self.new.ids.len() >= MAX_TOKENS
            || self.new.text.len() + self.new.reasoning.len() >= MAX_BYTES
            || !self.new.calls.is_empty()
    }

    /// Takes the next chunk of the output since the last call. `None` if there is none.
    pub fn take(&mut self) -> Option<Chunk> {
        self.take_at_most(MAX_BYTES)
    }

    fn take_at_most(&mut self, bytes: usize) -> Option<Chunk> {
        if self.new.is_empty() {
            return None;
        }
        let index = self.index - u32::try_from(self.new.ids.len()).unwrap_or(self.index);
        let NewOutput { ids, text, reasoning, calls, logprobs } = self.new.take_front(bytes);
        Some(Chunk::Tokens { index, ids, text, reasoning, calls, logprobs })
    }

    /// The finish reason and the usage of a complete answer.
    pub fn outcome(&self) -> Option<(FinishReason, Usage)> {
        self.finished.map(|reason| (reason, Usage::new(self.prompt_tokens, self.index)))
    }
}

impl NewOutput {
    fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.released() == Released::default()
    }

    fn released(&self) -> Released {
        Released::of(&self.text, &self.reasoning, &self.calls)
    }

    /// The text, reasoning and calls behind what is `stored`.
    fn after(mut self, stored: Released) -> Self {
        Self {
            text: self.text.split_off(stored.text.min(self.text.len())),
            reasoning: self.reasoning.split_off(stored.reasoning.min(self.reasoning.len())),
            calls: self.calls.split_off(stored.calls.min(self.calls.len())),
            ..Self::default()
        }
    }

    /// Takes all tokens, and text of about `bytes` bytes: reasoning first, then text, then one call.
    fn take_front(&mut self, bytes: usize) -> Self {
        let reasoning = take_text(&mut self.reasoning, bytes);
        let left = bytes.saturating_sub(reasoning.len());
        let text = if self.reasoning.is_empty() { take_text(&mut self.text, left) } else { String::new() };
        let has_text = !reasoning.is_empty() || !text.is_empty();
        let fits = |call: &ToolCall| !has_text || call.function.arguments.len() <= left.saturating_sub(text.len());
        let takes_call = self.reasoning.is_empty() && self.text.is_empty() && self.calls.first().is_some_and(fits);
        Self {
            ids: std::mem::take(&mut self.ids),
            logprobs: std::mem::take(&mut self.logprobs),
            calls: self.calls.drain(..usize::from(takes_call)).collect(),
            text,
            reasoning,
        }
    }
}

/// Takes the first characters of a text: about `bytes` bytes, and at least one character unless `bytes` is 0.
fn take_text(text: &mut String, bytes: usize) -> String {
    if bytes == 0 {
        return String::new();
    }
    let end = text.ceil_char_boundary(bytes);
    let rest = text.split_off(end);
    std::mem::replace(text, rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::decide::markup::{AnswerMarkup, HERMES, LLAMA, Marks};

    /// The token that ends an answer.
    const EOS: u32 = 99;

    fn spec(limit: u32) -> AnswerSpec {
        AnswerSpec {
            job: "job".parse().expect("an id"),
            stops: vec!["END".into()],
            eos_tokens: vec![EOS],
            expected: ExpectedOutput::default(),
            prompt_tokens: 3,
            limit,
        }
    }

    fn answer() -> Answer {
        Answer::new(spec(4))
    }

    /// The answer of a model with reasoning and tool calls.
    fn reasoning_answer() -> Answer {
        let markup =
            AnswerMarkup { reasoning: Some(Marks { open: "<think>", close: "</think>" }), calls: Some(HERMES) };
        Answer::new(AnswerSpec { expected: ExpectedOutput { markup, ..ExpectedOutput::default() }, ..spec(40) })
    }

    /// Text, reasoning and calls.
    fn contents(chunks: &[Chunk]) -> (String, String, Vec<ToolCall>) {
        let mut all = (String::new(), String::new(), Vec::new());
        for chunk in chunks {
            if let Chunk::Tokens { text, reasoning, calls, .. } = chunk {
                all.0.push_str(text);
                all.1.push_str(reasoning);
                all.2.extend(calls.clone());
            }
        }
        all
    }

    #[test]
    fn gathered_tokens_become_one_chunk() {
        let mut answer = answer();
        answer.push(7, b"a", None);
        answer.push(8, b"b", None);
        assert_eq!(answer.take(), Some(Chunk::tokens(0, vec![7, 8], "ab")));
        assert_eq!(answer.take(), None);
        answer.push(9, b"c", None);
        assert_eq!(answer.take(), Some(Chunk::tokens(2, vec![9], "c")));
    }

    #[test]
    fn answer_ends_by_eos_token_stop_string_or_limit() {
        let mut ended = answer();
        ended.push(1, b"a E", None);
        ended.push(EOS, b"", None);
        assert_eq!(ended.take(), Some(Chunk::tokens(0, vec![1], "a E")), "held text is released");
        assert_eq!(ended.outcome(), Some((FinishReason::Stop, Usage::new(3, 1))));

        let mut stopped = answer();
        stopped.push(1, b"a EN", None);
        stopped.push(2, b"D b", None);
        stopped.push(3, b"c", None);
        assert_eq!(stopped.take(), Some(Chunk::tokens(0, vec![1, 2], "a ")));
        assert_eq!(stopped.outcome(), Some((FinishReason::Stop, Usage::new(3, 2))));

        let mut long = answer();
        (0..9).for_each(|id| long.push(id, b"x", None));
        assert_eq!(long.outcome(), Some((FinishReason::Length, Usage::new(3, 4))));
    }

    #[test]
    fn cut_answer_releases_what_was_held_back() {
        let mut cut = answer();
        cut.push(1, b"a E", None);
        cut.cut();
        assert_eq!(cut.take(), Some(Chunk::tokens(0, vec![1], "a E")), "held text is released");
        assert_eq!(cut.outcome(), Some((FinishReason::Deadline, Usage::new(3, 1))));
        let mut complete = answer();
        complete.push(EOS, b"", None);
        complete.cut();
        assert_eq!(complete.outcome(), Some((FinishReason::Stop, Usage::new(3, 0))), "it was complete before");
    }

    #[test]
    fn resumed_answer_whose_end_is_stored_is_complete() {
        let mut first = answer();
        first.push(1, b"a E", None);
        let mut stored: Vec<Chunk> = first.take().into_iter().collect();
        first.push(EOS, b"", None);
        stored.extend(first.take());
        let mut second = answer();
        second.resume([(1, b"a E".as_slice())], stored.iter().map(Released::by).sum());
        assert!(second.is_finished());
        assert_eq!(second.take(), None);
    }

    #[test]
    fn long_text_is_cut_into_chunks_at_characters() {
        let mut answer = answer();
        let text = "ü".repeat(MAX_BYTES);
        answer.push(1, text.as_bytes(), None);
        assert!(answer.is_full());
        let chunks: Vec<Chunk> = std::iter::from_fn(|| answer.take()).collect();
        assert_eq!((chunks.len(), contents(&chunks).0), (2, text));
        assert_eq!(chunks.iter().map(Chunk::count).collect::<Vec<u32>>(), [1, 0]);
        assert_eq!(chunks.iter().filter_map(Chunk::index).collect::<Vec<u32>>(), [0, 1]);
        assert!(!answer.is_full());
    }

    #[test]
    fn answer_with_tool_calls_has_that_finish_reason() {
        let mut answer = reasoning_answer();
        for piece in ["<think>", "Hm", "</think>", "\n", "<tool_call>", "{\"name\": \"sun\"", "}", "</tool_call>"] {
            answer.push(1, piece.as_bytes(), None);
        }
        answer.push(EOS, b"", None);
        let (text, reasoning, calls) = contents(&answer.take().into_iter().collect::<Vec<Chunk>>());
        assert_eq!((text.as_str(), reasoning.as_str(), calls.len()), ("", "Hm", 1));
        assert_eq!((calls[0].function.name.as_str(), calls[0].function.arguments.as_str()), ("sun", "{}"));
        assert_eq!(answer.outcome(), Some((FinishReason::ToolCalls, Usage::new(3, 8))));
    }

    #[test]
    fn resumed_answer_whose_final_call_is_stored_is_complete() {
        let open = b"{\"name\": \"sun\", \"parameters\": {}".as_slice();
        let markup = AnswerMarkup { calls: Some(LLAMA), ..AnswerMarkup::default() };
        let expected =
            ExpectedOutput { markup, tools: vec!["sun".into()], one_call: true, ..ExpectedOutput::default() };
        let answer = || Answer::new(AnswerSpec { expected: expected.clone(), ..spec(40) });
        let mut first = answer();
        first.push(1, open, None);
        first.push(2, b"}", None);
        let stored = first.take().iter().map(Released::by).sum();
        let mut second = answer();
        second.resume([(1, open), (2, b"}".as_slice())], stored);
        assert_eq!(second.outcome(), first.outcome());
        assert_eq!(second.outcome().map(|(reason, _)| reason), Some(FinishReason::ToolCalls));
    }

    proptest! {
        #[test]
        fn resumed_answer_equals_the_uninterrupted_one(
            pieces in prop::collection::vec(
                prop_oneof![
                    "[ENDab🐝 ]{0,3}",
                    prop::sample::select(vec![
                        "<think>", "</think>", "<tool_call>", "{\"name\": \"a\"}", "</tool_call>", "\n",
                    ]).prop_map(str::to_owned),
                ],
                1..12,
            ),
            cut in 0usize..12,
            taken in prop::collection::vec(any::<bool>(), 12),
            bytes in 1usize..6,
        ) {
            let run = |answer: &mut Answer, from: usize, to: usize, chunks: &mut Vec<Chunk>| {
                for (id, piece) in pieces.iter().enumerate().take(to).skip(from) {
                    answer.push(id as u32, piece.as_bytes(), None);
                    if taken[id] {
                        chunks.extend(answer.take_at_most(bytes));
                    }
                }
            };
            for answer in [answer, reasoning_answer] {
                let (mut whole, mut whole_chunks) = (answer(), Vec::new());
                run(&mut whole, 0, pieces.len(), &mut whole_chunks);
                whole.push(EOS, b"", None);
                whole_chunks.extend(std::iter::from_fn(|| whole.take_at_most(bytes)));

                let (mut first, mut chunks) = (answer(), Vec::new());
                run(&mut first, 0, cut.min(pieces.len()), &mut chunks);
                let stored: Vec<u32> = chunks.iter().flat_map(|chunk| match chunk {
                    Chunk::Tokens { ids, .. } => ids.clone(),
                    _ => Vec::new(),
                }).collect();
                let mut second = answer();
                let tokens = stored.iter().map(|id| (*id, pieces[*id as usize].as_bytes()));
                second.resume(tokens, chunks.iter().map(Released::by).sum());
                run(&mut second, stored.len(), pieces.len(), &mut chunks);
                second.push(EOS, b"", None);
                chunks.extend(std::iter::from_fn(|| second.take_at_most(bytes)));

                prop_assert_eq!(contents(&chunks), contents(&whole_chunks));
                prop_assert_eq!(second.outcome(), whole.outcome());
            }
        }
    }
}
