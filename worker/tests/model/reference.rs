//! Holds the engine against llama.cpp: the same prompt ids, and the same greedy tokens.
//!
//! The reference is written by `scripts/reference_tokens.py`. Two programs that add floating-point numbers in different
//! orders agree on a token only where it is clearly the likeliest. So a different token is accepted where the
//! reference's two highest logits are nearly a tie; the engine is then put back on the reference's track
//! (a sequence that is admitted with the reference's tokens so far, as for a resumed job) and the comparison goes on.
//! Everywhere else the tokens must be equal.

use std::collections::BTreeMap;

use rbee_schema::Message;
use rbee_worker::contract::{Chat, Loaded, Sequence, SequenceId};
use serde::Deserialize;

use crate::{GREEDY, load_path, test_model};

/// So many of all tokens may go the other way although the reference's gap is wider than a near tie: of 1,280 tokens one
/// did, at 0.68. A model that is computed wrongly differs in dozens.
const WIDE_TIES: usize = 2;
/// Wider than this is no tie.
const WIDEST: f32 = 1.0;
/// More near ties than this, of 64 tokens, would be a tendency and not an accident. At most 2 were seen.
const NEAR_TIES_IN_A_CHAT: usize = 6;

#[derive(Deserialize)]
pub(crate) struct Reference {
    pub(crate) chats: BTreeMap<String, Chat>,
    /// In logits, which range over some 30 here. Both programs round activations to 8 bits, which multiplies the
    /// smallest difference: a change of the cache from 32 to 16 bits moves the gaps of llama.cpp itself by 0.18 (root
    /// mean square), and three times that is a near tie. The engine's gaps differ from llama.cpp's by 0.25, of which
    /// 0.17 remain with the weights as they stand in the file. The widest gap that went the other way was 0.33; with
    /// rotary positions of a base that is wrong by a fifth it is 0.7.
    near_tie: f32,
}

#[derive(Deserialize)]
pub(crate) struct Chat {
    pub(crate) messages: Vec<Message>,
    pub(crate) prompt: Vec<u32>,
    answer: Vec<u32>,
    gaps: Vec<f32>,
}

pub(crate) fn reference() -> Reference {
    serde_json::from_str(include_str!("../reference/smollm2.json")).expect("written by the script")
}

fn loaded(slots: u32) -> Loaded {
    load_path(test_model(), None, slots).expect("loads")
}

/// A chat that is being compared.
struct Comparison<'a> {
    id: SequenceId,
    chat: &'a Chat,
    near_tie: f32,
    /// How many tokens were compared.
    done: usize,
    /// Where near ties went the other way.
    ties: Vec<usize>,
    /// How many of these were wider than near ties.
    wide: usize,
}

impl Comparison<'_> {
    fn admit(&self, loaded: &mut Loaded) {
        let emitted = self.chat.answer[..self.done].to_vec();
        let sequence = Sequence { emitted, ..Sequence::new(self.chat.prompt.clone(), GREEDY) };
        loaded.engine.admit(self.id, sequence).expect("admitted");
    }

    /// Compares the next token; false when the engine was put back.
    fn compare(&mut self, token: u32, loaded: &mut Loaded) -> bool {
        let (index, expected, gap) = (self.done, self.chat.answer[self.done], self.chat.gaps[self.done]);
        self.done += 1;
        if token != expected {
            assert!(gap < WIDEST, "token {index} is {token}, not {expected}, which is ahead by {gap}");
            self.wide += usize::from(gap >= self.near_tie);
            self.ties.push(index);
            loaded.engine.release(self.id);
            self.admit(loaded);
        }
        token == expected
    }
}

#[test]
fn prompts_have_the_ids_of_llama_cpp() {
    let loaded = loaded(1);
    for (name, chat) in reference().chats {
        assert_eq!(loaded.text.prompt(&Chat::new(&chat.messages)), Ok(chat.prompt), "{name}");
    }
}

#[test]
fn answers_have_the_tokens_of_llama_cpp() {
    let reference = reference();
    let (near_tie, mut loaded) = (reference.near_tie, loaded(reference.chats.len() as u32));
    // All at once: that they do not disturb each other is part of what is compared.
    let mut open: Vec<Comparison<'_>> = (0..)
        .zip(reference.chats.values())
        .map(|(id, chat)| Comparison { id: SequenceId(id), chat, near_tie, done: 0, ties: Vec::new(), wide: 0 })
        .collect();
    open.iter().for_each(|comparison| comparison.admit(&mut loaded));
    while loaded.engine.stats().sequences > 0 {
        let mut made = loaded.engine.step();
        while !made.is_empty() {
            let (id, token) = made.remove(0);
            let comparison = open.iter_mut().find(|comparison| comparison.id == id).expect("admitted");
            let is_on_track = comparison.compare(token.expect("no failure").id, &mut loaded);
            if comparison.done == comparison.chat.answer.len() {
                loaded.engine.release(id);
            }
            if !is_on_track || comparison.done == comparison.chat.answer.len() {
                // A step may make several tokens of a sequence: those behind are of a track that was left.
                made.retain(|(other, _)| *other != id);
            }
        }
    }
    let wide: usize = open.iter().map(|comparison| comparison.wide).sum();
    assert!(wide <= WIDE_TIES, "{wide} tokens differ by more than near ties");
    for (name, comparison) in reference.chats.keys().zip(open) {
        assert_eq!(comparison.done, comparison.chat.answer.len(), "{name}");
        println!("{name}: near ties at {:?}", comparison.ties);
        assert!(comparison.ties.len() <= NEAR_TIES_IN_A_CHAT, "{name}: near ties at {:?}", comparison.ties);
    }
    let stats = loaded.engine.stats();
    println!("{} + {} tokens in {:?}", stats.prompt_tokens, stats.answer_tokens, stats.busy);
}
