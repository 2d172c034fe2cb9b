//! Options of the program.

use clap::{Parser, ValueEnum};

use crate::workload::Workload;

/// Compares the engine with llama.cpp.
#[derive(Debug, Parser)]
#[command(name = "rbee-bench-engine", version, max_term_width = 100)]
pub(crate) struct Options {
    /// GGUF files, or smollm2, gemma, synthetic, which `scripts/setup bench` provides.
    #[arg(long, value_delimiter = ',', default_value = "smollm2,gemma,synthetic", value_name = "NAME|FILE,...")]
    pub(crate) models: Vec<String>,
    /// Number of rounds. Each measures everything once.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = at_least_one)]
    pub(crate) rounds: usize,
    /// Number of processors and threads of each side.
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = at_least_one)]
    pub(crate) threads: usize,
    /// Parts to measure [default: all].
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART,...")]
    pub(crate) only: Vec<Only>,
    /// Print JSON instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
    /// Keep the engine full for a long time instead, with the first model.
    #[arg(long)]
    pub(crate) endurance: bool,
    /// Duration of the endurance run, in minutes.
    #[arg(long, default_value_t = 10, value_name = "N", requires = "endurance")]
    pub(crate) minutes: u64,
    /// Run as our side: answer questions on standard input.
    #[arg(long, hide = true)]
    pub(crate) serve: bool,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("expected at least 1".to_owned()),
        Ok(count) => Ok(count),
        Err(_) => Err("expected a count".to_owned()),
    }
}

/// A part of the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Only {
    /// Prompts of 128 and 512 tokens.
    Prefill,
    /// A single answer.
    Decode,
    /// 1 to 16 concurrent answers.
    Concurrent,
    /// The second turn of a chat.
    Turn,
    /// Load, first answer and memory of a new process.
    Start,
    /// Agreement of tokens with llama.cpp.
    Answers,
    /// Perplexity of a text, compared with llama.cpp.
    Perplexity,
}

impl Options {
    pub(crate) fn wants(&self, part: Only) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    pub(crate) fn workloads(&self) -> Vec<Workload> {
        let parts = [
            (Only::Prefill, vec![Workload::Prefill(128), Workload::Prefill(512)]),
            (Only::Decode, vec![Workload::Decode, Workload::Draw]),
            (Only::Concurrent, [1, 2, 4, 8, 16].map(Workload::Concurrent).to_vec()),
            (Only::Turn, vec![Workload::Turn]),
        ];
        parts.into_iter().filter(|(part, _)| self.wants(*part)).flat_map(|(_, workloads)| workloads).collect()
    }
}
