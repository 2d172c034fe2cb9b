//! `rbee-bench-engine`: our engine and llama.cpp side by side. `make bench-engine` fetches, builds and runs it.
//!
//! Both sides are processes of their own and get the same files, the same tokens and the same processors. In each round
//! both do everything once, one after the other, so that what slows the machine down slows down both; what is compared
//! are the ratios of the rounds. llama.cpp is asked with each of its settings, and each row has the one that serves it
//! best there.

mod bandwidth;
mod endurance;
mod endure;
mod measure;
mod ours;
mod perplexity;
mod reference;
mod report;
mod row;
mod side;
mod start;
mod wire;
mod workload;

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::{Parser, ValueEnum};
use rbee_bench::machine;
use rbee_tests::tools::repository;
use serde_json::json;

use crate::{bandwidth::Memory, report::Report, side::Side, wire::Description, wire::Question, workload::Workload};

/// Measures the engine beside llama.cpp.
#[derive(Debug, Parser)]
#[command(name = "rbee-bench-engine", version, max_term_width = 100)]
struct Options {
    /// GGUF files, or smollm2, gemma, synthetic, which `scripts/setup bench` brings.
    #[arg(long, value_delimiter = ',', default_value = "smollm2,gemma,synthetic", value_name = "NAME|FILE,...")]
    models: Vec<String>,
    /// How often everything is measured.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = at_least_one)]
    rounds: usize,
    /// How many processors each side may use, with as many threads.
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = at_least_one)]
    threads: usize,
    /// What is measured; everything if nothing is named.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT,...")]
    only: Vec<Only>,
    /// JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// Keeps the engine full for a long time instead, with the first of the models.
    #[arg(long)]
    endurance: bool,
    /// How long that is.
    #[arg(long, default_value_t = 10, value_name = "N", requires = "endurance")]
    minutes: u64,
    /// Is our side: answers questions on standard input.
    #[arg(long, hide = true)]
    serve: bool,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("expected at least 1".to_owned()),
        Ok(count) => Ok(count),
        Err(_) => Err("expected a count".to_owned()),
    }
}

/// A part of what is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Only {
    /// Prompts of 128 and 512 tokens.
    Prefill,
    /// One answer.
    Decode,
    /// 1 to 16 answers at a time.
    Concurrent,
    /// The second turn of a chat.
    Turn,
    /// Load, first answer and memory of a fresh process.
    Start,
    /// Whether the tokens are those of llama.cpp.
    Answers,
    /// Whether a text is as likely as llama.cpp says.
    Perplexity,
}

impl Options {
    fn wants(&self, part: Only) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    fn workloads(&self) -> Vec<Workload> {
        let parts = [
            (Only::Prefill, vec![Workload::Prefill(128), Workload::Prefill(512)]),
            (Only::Decode, vec![Workload::Decode, Workload::Draw]),
            (Only::Concurrent, [1, 2, 4, 8, 16].map(Workload::Concurrent).to_vec()),
            (Only::Turn, vec![Workload::Turn]),
        ];
        parts.into_iter().filter(|(part, _)| self.wants(*part)).flat_map(|(_, workloads)| workloads).collect()
    }
}

fn main() {
    let options = Options::parse();
    if options.serve {
        return ours::serve();
    }
    let text = repository().join("worker/tests/reference/text.txt");
    let text = fs::read_to_string(text).expect("a file of this repository");
    let models: Vec<PathBuf> = options.models.iter().map(|name| file(name)).collect();
    if options.endurance {
        endure(&models[0], &options, &text);
    } else {
        compare(&models, &options, &text);
    }
}

/// The file of a model.
fn file(name: &str) -> PathBuf {
    let known = match name {
        "smollm2" => "SmolLM2-135M-Instruct.Q4_1.gguf",
        "gemma" => "gemma-3-270m.Q4_K_M.gguf",
        "synthetic" => "synthetic-1B.Q4_K_M.gguf",
        other => return PathBuf::from(other),
    };
    repository().join(".tools/models").join(known)
}

fn compare(models: &[PathBuf], options: &Options, text: &str) {
    let described = Side::theirs(options.threads).ask(&Question::Describe {});
    let theirs: Description = described.unwrap_or_else(|why| panic!("llama.cpp: {why}: run `scripts/setup bench`"));
    let facts = format!("{}; {} threads each", machine::hardware(), options.threads);
    let rbee = env!("CARGO_PKG_VERSION");
    if !options.json {
        println!("{facts}; rbee {rbee}; {} ({})", theirs.version, theirs.features.join(" "));
        println!(
            "llama.cpp: batches of 512, 16-bit cache with a part for each sequence, its own pool of threads, room for what is \
             asked; with or without flash attention, mapping or reading the file, whichever is better in the row"
        );
    }
    let memory = Memory::new(options.threads);
    let mut reports: Vec<Report> = Vec::new();
    for model in models {
        let report = measure::measure(model, options, text, &memory);
        if !options.json {
            report.print();
        }
        reports.push(report);
    }
    if options.json {
        let models: Vec<_> = reports.iter().map(Report::json).collect();
        println!("{}", json!({ "machine": facts, "rbee": rbee, "llama.cpp": theirs, "models": models }));
    }
}

fn endure(model: &Path, options: &Options, text: &str) {
    let endurance = endurance::measure(model, options.threads, options.minutes, text);
    match options.json {
        true => println!("{}", endurance.json()),
        false => {
            println!("{}; {} threads; {}", machine::hardware(), options.threads, model.display());
            endurance.print();
        }
    }
}
