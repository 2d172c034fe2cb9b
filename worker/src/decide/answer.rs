//! The answer to one job as it grows: which tokens, which text of them is certain, and when it is complete.
//!
//! An answer depends on its tokens alone. A worker that goes on where another stopped replays the stored tokens and is
//! then where that one was.

use rbee_schema::{CalledFunction, Chunk, FinishReason, JobId, TokenLogprob, ToolCall, ToolKind, Usage};

use crate::decide::{
    call::{self, Call},
    parts::{Expected, Part, Parts},
    text::Assembler,
};

/// What an answer is held to.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Whose answer it is.
    pub job: JobId,
    /// Texts that end it, wherever they come: in a thought and in a call too.
    pub stops: Vec<String>,
    /// The tokens that end it.
    pub ends: Vec<u32>,
    /// What there is to tell from its text.
    pub expected: Expected,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// The most tokens that it may have.
    pub limit: u32,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    job: JobId,
    reading: Option<(Assembler, Parts)>,
    ends: Vec<u32>,
    prompt_tokens: u32,
    limit: u32,
    /// The index of the next token.
    index: u32,
    /// How many calls it has made.
    called: usize,
    finished: Option<FinishReason>,
    /// What has come since it was last taken.
    new: New,
}

#[derive(Debug, Clone, Default)]
struct New {
    ids: Vec<u32>,
    text: String,
    reasoning: String,
    calls: Vec<ToolCall>,
    logprobs: Vec<TokenLogprob>,
}

/// Tokens with logarithms of probabilities take up to two kilobytes each, and a chunk may have one megabyte.
const MOST_LOGPROBS: usize = 128;

impl Answer {
    /// An empty answer.
    pub fn new(terms: Terms) -> Self {
        let Terms { job, stops, ends, expected, prompt_tokens, limit } = terms;
        Self {
            job,
            reading: Some((Assembler::new(stops), Parts::new(expected))),
            ends,
            prompt_tokens,
            limit,
            index: 0,
            called: 0,
            finished: None,
            new: New::default(),
        }
    }

    /// Takes over what another worker stored: its tokens, as bytes and ids, and how much it released, by [`released`].
    pub fn resume<'a>(&mut self, tokens: impl IntoIterator<Item = (u32, &'a [u8])>, stored: usize) {
        for (id, bytes) in tokens {
            self.push(id, bytes, None);
        }
        // More than the tokens make certain: the answer was complete, and its held back end was released.
        if stored > self.new.size() && self.finished.is_none() {
            self.finish(FinishReason::Stop);
        }
        self.new = New::default();
    }

    /// Takes the next token, its bytes, and its probability where that was asked for. A token that ends the answer is not
    /// part of it. Nothing happens when the answer is complete.
    pub fn push(&mut self, id: u32, bytes: &[u8], logprob: Option<TokenLogprob>) {
        if self.finished.is_some() {
            return;
        }
        if self.ends.contains(&id) {
            return self.finish(FinishReason::Stop);
        }
        let Some((assembler, parts)) = &mut self.reading else { return };
        let released = assembler.push(bytes);
        let found = parts.push(&released.text);
        let is_over = released.stopped || parts.is_over();
        self.new.ids.push(id);
        self.new.logprobs.extend(logprob);
        self.index += 1;
        self.add(found);
        if is_over {
            self.finish(FinishReason::Stop);
        } else if self.index >= self.limit {
            self.finish(FinishReason::Length);
        }
    }

    fn finish(&mut self, reason: FinishReason) {
        if let Some((assembler, mut parts)) = self.reading.take() {
            let mut found = parts.push(&assembler.finish());
            found.extend(parts.finish());
            self.add(found);
        }
        let has_called = self.called > 0 && reason == FinishReason::Stop;
        self.finished = Some(if has_called { FinishReason::ToolCalls } else { reason });
    }

    fn add(&mut self, parts: Vec<Part>) {
        for part in parts {
            match part {
                Part::Text(text) => self.new.text.push_str(&text),
                Part::Thought(thought) => self.new.reasoning.push_str(&thought),
                Part::Call(Call { name, arguments }) => {
                    let id = call::id(&self.job, self.called);
                    let function = CalledFunction { name, arguments };
                    self.new.calls.push(ToolCall { id, r#type: ToolKind::Function, function });
                    self.called += 1;
                }
            }
        }
    }

    /// Tokens of the prompt.
    pub fn prompt_tokens(&self) -> u32 {
        self.prompt_tokens
    }

    /// The index of the next token.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// How many tokens it may still have.
    pub fn left(&self) -> u32 {
        self.limit.saturating_sub(self.index)
    }

    /// Whether it is complete.
    pub fn is_finished(&self) -> bool {
        self.finished.is_some()
    }

    /// Whether it is to be taken before another token comes.
    pub fn is_full(&self) -> bool {
        self.new.logprobs.len() >= MOST_LOGPROBS
    }

    /// What has come since it was last taken, as one chunk.
    pub fn take(&mut self) -> Option<Chunk> {
        if self.new.ids.is_empty() && self.new.size() == 0 {
            return None;
        }
        let New { ids, text, reasoning, calls, logprobs } = std::mem::take(&mut self.new);
        let index = self.index - u32::try_from(ids.len()).unwrap_or(self.index);
        Some(Chunk::Tokens { index, ids, text, reasoning, calls, logprobs })
    }

    /// Why it is complete, and what it took.
    pub fn outcome(&self) -> Option<(FinishReason, Usage)> {
        self.finished.map(|reason| (reason, Usage::new(self.prompt_tokens, self.index)))
    }
}

impl New {
    /// In bytes, as far as it grows with what is certain.
    fn size(&self) -> usize {
        size(&self.text, &self.reasoning, &self.calls)
    }
}

/// How much of an answer a chunk releases, in bytes.
pub fn released(chunk: &Chunk) -> usize {
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
    use crate::decide::format::{AnswerFormat, HERMES, LLAMA, Marks};

    /// The token that ends an answer.
    const OVER: u32 = 99;

    fn terms(limit: u32) -> Terms {
        Terms {
            job: "job".parse().expect("an id"),
            stops: vec!["END".into()],
            ends: vec![OVER],
            expected: Expected::default(),
            prompt_tokens: 3,
            limit,
        }
    }

    fn answer() -> Answer {
        Answer::new(terms(4))
    }

    /// The answer of a model that thinks and calls tools.
    fn thoughtful() -> Answer {
        let format = AnswerFormat { thoughts: Some(Marks { open: "<think>", close: "</think>" }), calls: Some(HERMES) };
        Answer::new(Terms { expected: Expected { format, ..Expected::default() }, ..terms(40) })
    }

    /// Text, thoughts and calls.
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
    fn tokens_that_gather_become_one_chunk() {
        let mut answer = answer();
        answer.push(7, b"a", None);
        answer.push(8, b"b", None);
        assert_eq!(answer.take(), Some(Chunk::tokens(0, vec![7, 8], "ab")));
        assert_eq!(answer.take(), None);
        answer.push(9, b"c", None);
        assert_eq!(answer.take(), Some(Chunk::tokens(2, vec![9], "c")));
    }

    #[test]
    fn an_answer_ends_by_the_model_by_a_stop_text_or_by_its_limit() {
        let mut ended = answer();
        ended.push(1, b"a E", None);
        ended.push(OVER, b"", None);
        assert_eq!(ended.take(), Some(Chunk::tokens(0, vec![1], "a E")), "held text comes");
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
    fn an_answer_whose_end_was_stored_is_complete_when_it_is_resumed() {
        let mut first = answer();
        first.push(1, b"a E", None);
        let mut stored: Vec<Chunk> = first.take().into_iter().collect();
        first.push(OVER, b"", None);
        stored.extend(first.take());
        let mut second = answer();
        second.resume([(1, b"a E".as_slice())], stored.iter().map(released).sum());
        assert!(second.is_finished());
        assert_eq!(second.take(), None);
    }

    #[test]
    fn an_answer_that_calls_tools_ends_by_that() {
        let mut answer = thoughtful();
        for piece in ["<think>", "Hm", "</think>", "\n", "<tool_call>", "{\"name\": \"sun\"", "}", "</tool_call>"] {
            answer.push(1, piece.as_bytes(), None);
        }
        answer.push(OVER, b"", None);
        let (text, thoughts, calls) = contents(&answer.take().into_iter().collect::<Vec<Chunk>>());
        assert_eq!((text.as_str(), thoughts.as_str(), calls.len()), ("", "Hm", 1));
        assert_eq!((calls[0].function.name.as_str(), calls[0].function.arguments.as_str()), ("sun", "{}"));
        assert_eq!(answer.outcome(), Some((FinishReason::ToolCalls, Usage::new(3, 8))));
    }

    #[test]
    fn an_answer_whose_call_was_stored_with_its_end_is_complete_when_it_is_resumed() {
        let open = b"{\"name\": \"sun\", \"parameters\": {}".as_slice();
        let format = AnswerFormat { calls: Some(LLAMA), ..AnswerFormat::default() };
        let expected = Expected { format, tools: vec!["sun".into()], one_call: true, ..Expected::default() };
        let answer = || Answer::new(Terms { expected: expected.clone(), ..terms(40) });
        let mut first = answer();
        first.push(1, open, None);
        first.push(2, b"}", None);
        let stored: usize = first.take().iter().map(released).sum();
        let mut second = answer();
        second.resume([(1, open), (2, b"}".as_slice())], stored);
        assert_eq!(second.outcome(), first.outcome());
        assert_eq!(second.outcome().map(|(reason, _)| reason), Some(FinishReason::ToolCalls));
    }

    proptest! {
        #[test]
        fn an_answer_that_is_resumed_anywhere_goes_on_as_if_nothing_had_happened(
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
            for answer in [answer, thoughtful] {
                let (mut whole, mut whole_chunks) = (answer(), Vec::new());
                run(&mut whole, 0, pieces.len(), &mut whole_chunks);
                whole.push(OVER, b"", None);
                whole_chunks.extend(whole.take());

                let (mut first, mut chunks) = (answer(), Vec::new());
                run(&mut first, 0, cut.min(pieces.len()), &mut chunks);
                let stored: Vec<u32> = chunks.iter().flat_map(|chunk| match chunk {
                    Chunk::Tokens { ids, .. } => ids.clone(),
                    _ => Vec::new(),
                }).collect();
                let mut second = answer();
                let tokens = stored.iter().map(|id| (*id, pieces[*id as usize].as_bytes()));
                second.resume(tokens, chunks.iter().map(released).sum());
                run(&mut second, stored.len(), pieces.len(), &mut chunks);
                second.push(OVER, b"", None);
                chunks.extend(second.take());

                prop_assert_eq!(contents(&chunks), contents(&whole_chunks));
                prop_assert_eq!(second.outcome(), whole.outcome());
            }
        }
    }
}
