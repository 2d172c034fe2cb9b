//! `rbee-bench-engine`: our engine compared with llama.cpp. `make bench-engine` installs llama.cpp, builds and runs it.
//!
//! Both sides are separate processes and get the same files, the same tokens and the same processors. In each round both do
//! everything once, one after the other, so that other load slows down both. Ratios are taken within a round. llama.cpp runs
//! with each of its settings, and each row has the setting that is best for it.

mod bandwidth;
mod endurance;
mod measure;
mod options;
mod ours;
mod perplexity;
mod reference;
mod report;
mod row;
mod sequences;
mod side;
mod start;
mod wire;
mod workload;

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Parser as _;
use rbee_bench::machine;
use rbee_tests::tools::repository;
use serde_json::json;

use crate::{
    bandwidth::Memory,
    options::Options,
    report::Report,
    side::Side,
    wire::{Description, Question},
};

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
    let description = Side::theirs(options.threads).ask(&Question::Describe {});
    let theirs: Description = description.unwrap_or_else(|why| panic!("llama.cpp: {why}: run `scripts/setup bench`"));
    let facts = format!("{}; {} threads each", machine::hardware(), options.threads);
    let rbee = env!("CARGO_PKG_VERSION");
    if !options.json {
        println!("{facts}; rbee {rbee}; {} ({})", theirs.version, theirs.features.join(" "));
        println!(
            "llama.cpp: batches of 512, 16-bit KV cache for each sequence, its own thread pool, a context of the needed size; \
             with or without flash attention, with the file mapped or read, whichever is best for it in the row\n\
             Ratio: for throughput, ratio of our throughput to llama.cpp's; above 1 we are faster. For times and memory, \
             ratio of our value to llama.cpp's; below 1 we are better."
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
