//! Perplexity of one text on both sides. An error in the reading of a quantization shows here first.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{
    side::Side,
    wire::{Attention, Load, Loaded, Question, Scored},
};

/// Largest allowed distance of our perplexity divided by llama.cpp's from 1.
const AIM: f64 = 0.005;

/// Perplexities of one file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Perplexity {
    pub(crate) file: String,
    pub(crate) theirs: f64,
    /// Our perplexity, or the reason why there is none.
    pub(crate) ours: Result<f64, String>,
}

impl Perplexity {
    pub(crate) fn ratio(&self) -> Option<f64> {
        Some(self.ours.as_ref().ok()? / self.theirs)
    }

    pub(crate) fn is_met(&self) -> Option<bool> {
        Some((self.ratio()? - 1.0).abs() <= AIM)
    }

    pub(crate) fn json(&self) -> Value {
        let (ours, why) = (self.ours.as_ref().ok(), self.ours.as_ref().err());
        json!({ "file": self.file, "llama.cpp": self.theirs, "rbee": ours, "why not": why, "ratio": self.ratio(),
            "met": self.is_met() })
    }
}

/// Measures a model and its variants with other quantizations.
///
/// # Errors
/// The error of our side, where it returns no probabilities.
pub(crate) fn measure(model: &Path, threads: usize, text: &[u32]) -> Result<Vec<Perplexity>, String> {
    score(Side::ours(threads), model, threads, text)?;
    let files = [model.to_owned()].into_iter().chain(variants(model));
    files.map(|file| compare(&file, threads, text)).collect()
}

fn compare(file: &Path, threads: usize, text: &[u32]) -> Result<Perplexity, String> {
    let theirs = score(Side::theirs(threads), file, threads, text)?;
    let ours = score(Side::ours(threads), file, threads, text);
    let file = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Perplexity { file, theirs, ours })
}

/// The exponential of the mean negative log-probability of a token.
fn score(mut side: Side, model: &Path, threads: usize, text: &[u32]) -> Result<f64, String> {
    let (model, context, attention) = (model.to_owned(), text.len() as u32 + 1, Attention::Plain);
    let _: Loaded =
        side.ask(&Question::Load(Load { model, threads, context, sequences: 1, mapped: true, attention }))?;
    let Scored { log_probabilities } = side.ask(&Question::Score { tokens: text.to_vec() })?;
    let total: f64 = log_probabilities.iter().copied().map(f64::from).sum();
    Ok((-total / log_probabilities.len() as f64).exp())
}

/// The same model with other quantizations, which `scripts/setup bench` creates.
fn variants(model: &Path) -> Vec<PathBuf> {
    let name = model.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.split('.').next().unwrap_or_default();
    let folder = model.parent().unwrap_or(Path::new(".")).join("variants");
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.path()).collect();
    files.retain(|file| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&format!("{stem}."))));
    files.sort();
    files
}
