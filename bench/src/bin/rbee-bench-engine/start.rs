//! Start of a new process: time to load, time to the first token, memory.

use std::{fs::File, io, path::Path};

use rbee_bench::table::Unit;

use crate::{
    row::{Better, Kind, Rows},
    side::Side,
    wire::{Answer, Answered, Attention, Load, Loaded, Question},
    workload::{PROMPT, Prompts},
};

/// Context of the only sequence, in tokens.
const CONTEXT: u32 = 256;

/// Tokens of the only answer.
const TOKENS: usize = 16;

/// Settings of llama.cpp. A mapped file loads faster; a file that is read needs less memory where weights are repacked.
const SETTINGS: [(&str, bool); 2] = [("mapped", true), ("read", false)];

/// Starts a process, loads the model and requests an answer, once for each side and setting.
///
/// # Errors
/// The error of a side.
pub(crate) fn round(
    model: &Path,
    threads: usize,
    has_ours: bool,
    prompts: &mut Prompts,
    rows: &mut Rows,
) -> Result<(), String> {
    let prompt = prompts.take(PROMPT);
    if has_ours {
        rows.ours(fresh(Side::ours(threads), model, threads, true, &prompt)?);
    }
    for (setting, mapped) in SETTINGS {
        rows.theirs(setting, fresh(Side::theirs(threads), model, threads, mapped, &prompt)?);
    }
    Ok(())
}

fn fresh(
    mut side: Side,
    model: &Path,
    threads: usize,
    mapped: bool,
    prompt: &[u32],
) -> Result<Vec<(Kind, f64)>, String> {
    let attention = Attention::Flash;
    take_from_host(model);
    // A process that answers has allocated everything that it needs without a model.
    let _ = side.ask::<serde_json::Value>(&Question::Describe {});
    let before = side.usage().resident;
    let (model, sequences) = (model.to_owned(), 1);
    let load = Question::Load(Load { model, threads, context: CONTEXT, sequences, mapped, attention });
    let loaded: Loaded = side.ask(&load)?;
    let prompts = vec![prompt.to_vec()];
    let answer =
        Question::Answer(Answer { prompts, tokens: TOKENS, context: CONTEXT, attention, drawn: false, reuse: false });
    let answered: Answered = side.ask(&answer)?;
    let memory = Kind {
        name: "peak memory, above the start of the process".into(),
        unit: Unit::Bytes,
        better: Better::Less,
        aim: Some(1.0),
    };
    Ok(vec![
        (Kind::time("load").with_target(1.0), loaded.seconds),
        (Kind::time(format!("first token after {PROMPT} tokens, cold")), answered.first),
        (Kind::time("load and first token"), loaded.seconds + answered.first),
        (memory, side.usage().peak.saturating_sub(before) as f64),
    ])
}

/// Touches as much memory as a model needs, and frees it. On a virtual machine whose host provides memory on demand, the first
/// touch of a page is many times slower, and the side that loads first would pay for both.
fn take_from_host(model: &Path) {
    let bytes = std::fs::metadata(model).map_or(0, |file| file.len() as usize);
    let touched = vec![1_u8; bytes + bytes / 4];
    std::hint::black_box(&touched);
}

/// Reads a file into the page cache.
pub(crate) fn warm_up(model: &Path) {
    let read = File::open(model).and_then(|mut file| io::copy(&mut file, &mut io::sink()));
    read.unwrap_or_else(|cause| panic!("{} cannot be read: {cause}: run `scripts/setup bench`", model.display()));
}
