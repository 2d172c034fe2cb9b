//! The answer to one job as it grows: which tokens, which text of them is certain, and when it is complete.
//!
//! An answer depends on its tokens alone. A worker that goes on where another stopped replays the stored tokens and is
//! then where that one was.

use rbee_schema::{Chunk, FinishReason, TokenLogprob, Usage};

use crate::decide::text::Assembler;

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    assembler: Option<Assembler>,
    /// The tokens that end it.
    ends: Vec<u32>,
    prompt_tokens: u32,
    /// The most tokens that it may have.
    limit: u32,
    /// The index of the next token.
    index: u32,
    finished: Option<FinishReason>,
    ids: Vec<u32>,
    text: String,
    logprobs: Vec<TokenLogprob>,
}

/// Tokens with logarithms of probabilities take up to two kilobytes each, and a chunk may have one megabyte.
const MOST_LOGPROBS: usize = 128;

impl Answer {
    /// An empty answer that ends at one of the texts `stops` or the tokens `ends`, or after `limit` tokens.
    pub fn new(stops: Vec<String>, ends: Vec<u32>, prompt_tokens: u32, limit: u32) -> Self {
        Self {
            assembler: Some(Assembler::new(stops)),
            ends,
            prompt_tokens,
            limit,
            index: 0,
            finished: None,
            ids: Vec::new(),
            text: String::new(),
            logprobs: Vec::new(),
        }
    }

    /// Takes over what another worker stored: its tokens, as bytes and ids, and how many bytes of text it released.
    pub fn resume<'a>(&mut self, tokens: impl IntoIterator<Item = (u32, &'a [u8])>, stored_text: usize) {
        for (id, bytes) in tokens {
            self.push(id, bytes, None);
        }
        let released = self.text.len();
        self.ids.clear();
        self.text.clear();
        // More text than the tokens make certain: the answer was complete, and its held back end was released.
        if stored_text > released && self.finished.is_none() {
            self.finished = Some(FinishReason::Stop);
            self.assembler = None;
        }
    }

    /// Takes the next token, its bytes, and its probability where that was asked for. A token that ends the answer is not
    /// part of it. Nothing happens when the answer is complete.
    pub fn push(&mut self, id: u32, bytes: &[u8], logprob: Option<TokenLogprob>) {
        if self.ends.contains(&id) {
            return self.end();
        }
        let Some(assembler) = self.assembler.as_mut().filter(|_| self.finished.is_none()) else { return };
        let released = assembler.push(bytes);
        self.ids.push(id);
        self.logprobs.extend(logprob);
        self.index += 1;
        self.text.push_str(&released.text);
        if released.stopped {
            self.finish(FinishReason::Stop);
        } else if self.index >= self.limit {
            self.finish(FinishReason::Length);
        }
    }

    fn end(&mut self) {
        if self.finished.is_none() {
            self.finish(FinishReason::Stop);
        }
    }

    fn finish(&mut self, reason: FinishReason) {
        self.finished = Some(reason);
        if let Some(assembler) = self.assembler.take() {
            self.text.push_str(&assembler.finish());
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

    /// Whether it is complete.
    pub fn is_finished(&self) -> bool {
        self.finished.is_some()
    }

    /// Whether it is to be taken before another token comes.
    pub fn is_full(&self) -> bool {
        self.logprobs.len() >= MOST_LOGPROBS
    }

    /// What has come since it was last taken, as one chunk.
    pub fn take(&mut self) -> Option<Chunk> {
        if self.ids.is_empty() && self.text.is_empty() {
            return None;
        }
        let ids = std::mem::take(&mut self.ids);
        let index = self.index - u32::try_from(ids.len()).unwrap_or(self.index);
        let (text, logprobs) = (std::mem::take(&mut self.text), std::mem::take(&mut self.logprobs));
        Some(Chunk::Tokens { index, ids, text, logprobs })
    }

    /// Why it is complete, and what it took.
    pub fn outcome(&self) -> Option<(FinishReason, Usage)> {
        self.finished.map(|reason| (reason, Usage::new(self.prompt_tokens, self.index)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The token that ends an answer.
    const OVER: u32 = 99;

    fn answer() -> Answer {
        Answer::new(vec!["END".into()], vec![OVER], 3, 4)
    }

    fn text_of(chunks: &[Chunk]) -> String {
        let text = |chunk: &Chunk| match chunk {
            Chunk::Tokens { text, .. } => text.clone(),
            _ => String::new(),
        };
        chunks.iter().map(text).collect()
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
        second.resume([(1, b"a E".as_slice())], text_of(&stored).len());
        assert!(second.is_finished());
        assert_eq!(second.take(), None);
    }

    proptest! {
        #[test]
        fn an_answer_that_is_resumed_anywhere_goes_on_as_if_nothing_had_happened(
            pieces in prop::collection::vec("[ENDab🐝]{0,3}", 1..12),
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
            second.resume(tokens, text_of(&chunks).len());
            run(&mut second, stored.len(), pieces.len(), &mut chunks);
            second.push(OVER, b"", None);
            chunks.extend(second.take());

            prop_assert_eq!(text_of(&chunks), text_of(&whole_chunks));
            prop_assert_eq!(second.outcome(), whole.outcome());
        }
    }
}
