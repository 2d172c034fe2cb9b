//! The engine kept full for minutes: what becomes of its memory, and how long anybody waits for a token.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use rbee_bench::{
    table::{Samples, print},
    usage::Usage,
};
use serde_json::{Value, json};

use crate::{
    side::Side,
    wire::{Attention, Endure, Endured, Load, Loaded, Question, Tokens},
    workload::{CONTEXT, SEQUENCES},
};

/// Between two looks at the memory.
const LOOK: Duration = Duration::from_secs(10);

/// What came of it.
pub(crate) struct Endurance {
    /// Bytes in memory, from when the model was loaded, every ten seconds.
    memory: Vec<u64>,
    peak: u64,
    /// Tokens per second, over all sequences.
    rate: f64,
    endured: Endured,
}

/// Keeps 16 sequences going for some minutes.
pub(crate) fn measure(model: &Path, threads: usize, minutes: u64, text: &str) -> Endurance {
    let mut side = Side::ours(threads);
    let (file, sequences) = (model.to_owned(), SEQUENCES as u32);
    let load = Load { model: file, threads, context: CONTEXT, sequences, mapped: true, attention: Attention::Flash };
    let load = Question::Load(load);
    let _: Loaded = side.ask(&load).unwrap_or_else(|why| panic!("rbee does not run it: {why}"));
    let Tokens { tokens: text } = tokens(&load, threads, text);
    let mut memory = vec![side.usage().resident];
    let begun = Instant::now();
    side.tell(&Question::Endure(Endure { seconds: minutes * 60, sequences, text, context: CONTEXT }));
    let endured: Endured = loop {
        match side.reply(LOOK) {
            None => memory.push(side.usage().resident),
            Some(reply) => break reply.unwrap_or_else(|why| panic!("rbee: {why}")),
        }
    };
    let rate = endured.tokens as f64 / begun.elapsed().as_secs_f64();
    let Usage { resident, peak, .. } = side.usage();
    memory.push(resident);
    Endurance { memory, peak, rate, endured }
}

fn tokens(load: &Question, threads: usize, text: &str) -> Tokens {
    let mut theirs = Side::theirs(threads);
    let _: Loaded = theirs.ask(load).unwrap_or_else(|why| panic!("llama.cpp: {why}"));
    theirs.ask(&Question::Tokenise { text: text.into() }).expect("it is loaded")
}

impl Endurance {
    /// What was resident after a tenth of the time, when every kind of sequence has been there.
    fn early(&self) -> u64 {
        self.memory[self.memory.len().div_ceil(10).min(self.memory.len() - 1)]
    }

    fn last(&self) -> u64 {
        self.memory[self.memory.len() - 1]
    }

    pub(crate) fn print(&self) {
        let Endured { firsts, gaps, tokens } = &self.endured;
        println!("\n{} sequences at a time, {} were finished, {tokens} tokens", SEQUENCES, gaps.len());
        print(
            "Memory and speed",
            &[
                ("memory, once the model is loaded", Samples::sizes([self.memory[0]])),
                ("after a tenth of the time", Samples::sizes([self.early()])),
                ("at the end", Samples::sizes([self.last()])),
                ("at most", Samples::sizes([self.peak])),
                ("tokens made, of all sequences", Samples::rates([self.rate])),
            ],
        );
        if !gaps.is_empty() {
            print(
                "Of each sequence that was finished",
                &[
                    ("its slowest pause between two tokens", Samples::seconds(gaps.iter().copied())),
                    ("its first token", Samples::seconds(firsts.iter().copied())),
                ],
            );
        }
    }

    pub(crate) fn json(&self) -> Value {
        json!({ "memory": self.memory, "peak": self.peak, "rate": self.rate, "endured": self.endured })
    }
}
