//! The answer to one job while it grows: its tokens, the parts of it that are final, and its end.
//!
//! An answer depends on its tokens alone. A worker that continues the answer of another one replays the stored tokens, and
//! then has the same state as that worker had.

use rbee_schema::{CalledFunction, Chunk, FinishReason, JobId, TokenLogprob, ToolCall, ToolKind, Usage};

use crate::decide::{
    assembler::Assembler,
    output_parser::{ExpectedOutput, OutputParser, OutputPart},
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

/// Maximum number of tokens with log-probabilities in a chunk. Each takes up to 2 kB, and a chunk may have 1 MB.
const MAX_LOGPROBS: usize = 128;

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

    /// Replays the stored tokens of earlier attempts, as ids and bytes. `stored` is the sum of [`released_bytes`] of their
    /// chunks.
    pub fn resume<'a>(&mut self, tokens: impl IntoIterator<Item = (u32, &'a [u8])>, stored: usize) {
        for (id, bytes) in tokens {
            self.push(id, bytes, None);
        }
        // More is stored than the tokens alone release: the answer was complete, and its held back end was released.
        if stored > self.new.size() && self.finished.is_none() {
            self.finish(FinishReason::Stop);
        }
        self.new = NewOutput::default();
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
    }

    /// Takes the output since the last call, as one chunk. `None` if there is none.
    pub fn take(&mut self) -> Option<Chunk> {
        if self.new.ids.is_empty() && self.new.size() == 0 {
            return None;
        }
        let NewOutput { ids, text, reasoning, calls, logprobs } = std::mem::take(&mut self.new);
        let index = self.index - u32::try_from(ids.len()).unwrap_or(self.index);
        Some(Chunk::Tokens { index, ids, text, reasoning, calls, logprobs })
    }

    /// The finish reason and the usage of a complete answer.
    pub fn outcome(&self) -> Option<(FinishReason, Usage)> {
        self.finished.map(|reason| (reason, Usage::new(self.prompt_tokens, self.index)))
    }
}

impl NewOutput {
    /// Bytes of released text, reasoning and calls.
    fn size(&self) -> usize {
        size(&self.text, &self.reasoning, &self.calls)
    }
}

/// Bytes of text, reasoning and calls that a chunk releases.
pub fn released_bytes(chunk: &Chunk) -> usize {
    match chunk {
        Chunk::Tokens { text, reasoning, calls, .. } => size(text, reasoning, calls),
        Chunk::Started { .. }
        | Chunk::Resumed { .. }
        | Chunk::Paused { .. }
        | Chunk::Embeddings { .. }
        | Chunk::Done { .. }
        | Chunk::Error { .. } => 0,
    }
}

fn size(text: &str, reasoning: &str, calls: &[ToolCall]) -> usize {
    let of_call = |call: &ToolCall| call.function.name.len() + call.function.arguments.len();
    text.len() + reasoning.len() + calls.iter().map(of_call).sum::<usize>()
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
    fn resumed_answer_whose_end_is_stored_is_complete() {
        let mut first = answer();
        first.push(1, b"a E", None);
        let mut stored: Vec<Chunk> = first.take().into_iter().collect();
        first.push(EOS, b"", None);
        stored.extend(first.take());
        let mut second = answer();
        second.resume([(1, b"a E".as_slice())], stored.iter().map(released_bytes).sum());
        assert!(second.is_finished());
        assert_eq!(second.take(), None);
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
        let stored: usize = first.take().iter().map(released_bytes).sum();
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
        ) {
            let run = |answer: &mut Answer, from: usize, to: usize, chunks: &mut Vec<Chunk>| {
                for (id, piece) in pieces.iter().enumerate().take(to).skip(from) {
                    answer.push(id as u32, piece.as_bytes(), None);
                    if taken[id] {
                        chunks.extend(answer.take());
                    }
                }
            };
            for answer in [answer, reasoning_answer] {
                let (mut whole, mut whole_chunks) = (answer(), Vec::new());
                run(&mut whole, 0, pieces.len(), &mut whole_chunks);
                whole.push(EOS, b"", None);
                whole_chunks.extend(whole.take());

                let (mut first, mut chunks) = (answer(), Vec::new());
                run(&mut first, 0, cut.min(pieces.len()), &mut chunks);
                let stored: Vec<u32> = chunks.iter().flat_map(|chunk| match chunk {
                    Chunk::Tokens { ids, .. } => ids.clone(),
                    _ => Vec::new(),
                }).collect();
                let mut second = answer();
                let tokens = stored.iter().map(|id| (*id, pieces[*id as usize].as_bytes()));
                second.resume(tokens, chunks.iter().map(released_bytes).sum());
                run(&mut second, stored.len(), pieces.len(), &mut chunks);
                second.push(EOS, b"", None);
                chunks.extend(second.take());

                prop_assert_eq!(contents(&chunks), contents(&whole_chunks));
                prop_assert_eq!(second.outcome(), whole.outcome());
            }
        }
    }
}
