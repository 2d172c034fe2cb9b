//! Endurance: the engine is kept full for minutes. Measures its memory, and the pauses between tokens.

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

/// Interval between two samples of the memory.
const SAMPLE: Duration = Duration::from_secs(10);

/// Results of the measurement.
pub(crate) struct Endurance {
    /// Resident bytes after the load, and then every 10 s.
    memory: Vec<u64>,
    peak: u64,
    /// Tokens per second of all sequences together.
    rate: f64,
    endured: Endured,
}

/// Keeps 16 sequences running for some minutes.
pub(crate) fn measure(model: &Path, threads: usize, minutes: u64, text: &str) -> Endurance {
    let mut side = Side::ours(threads);
    let (file, sequences) = (model.to_owned(), SEQUENCES as u32);
    let load = Load { model: file, threads, context: CONTEXT, sequences, mapped: true, attention: Attention::Flash };
    let load = Question::Load(load);
    let _: Loaded = side.ask(&load).unwrap_or_else(|why| panic!("rbee cannot run the model: {why}"));
    let Tokens { tokens: text } = tokens(&load, threads, text);
    let mut memory = vec![side.usage().resident];
    let begun = Instant::now();
    side.send(&Question::Endure(Endure { seconds: minutes * 60, sequences, text, context: CONTEXT }));
    let endured: Endured = loop {
        match side.reply(SAMPLE) {
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
    theirs.ask(&Question::Tokenise { text: text.into() }).expect("the model is loaded")
}

impl Endurance {
    /// Resident bytes after a tenth of the time, when sequences of every length have run.
    fn early(&self) -> u64 {
        self.memory[self.memory.len().div_ceil(10).min(self.memory.len() - 1)]
    }

    fn last(&self) -> u64 {
        self.memory[self.memory.len() - 1]
    }

    pub(crate) fn print(&self) {
        let Endured { firsts, gaps, tokens } = &self.endured;
        println!("\n{} concurrent sequences, {} finished, {tokens} tokens", SEQUENCES, gaps.len());
        print(
            "Memory and speed",
            &[
                ("memory after the load", Samples::sizes([self.memory[0]])),
                ("memory after a tenth of the time", Samples::sizes([self.early()])),
                ("memory at the end", Samples::sizes([self.last()])),
                ("peak memory", Samples::sizes([self.peak])),
                ("tokens of all sequences", Samples::rates([self.rate])),
            ],
        );
        if !gaps.is_empty() {
            print(
                "Each finished sequence",
                &[
                    ("longest pause between two tokens", Samples::seconds(gaps.iter().copied())),
                    ("first token", Samples::seconds(firsts.iter().copied())),
                ],
            );
        }
    }

    pub(crate) fn json(&self) -> Value {
        json!({ "memory": self.memory, "peak": self.peak, "rate": self.rate, "endured": self.endured })
    }
}
