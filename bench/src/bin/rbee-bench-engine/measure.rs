//! The rounds of one model. In each round both sides do everything once, one after the other.

use std::path::{Path, PathBuf};

use crate::{
    bandwidth::Memory,
    options::{Only, Options},
    perplexity,
    reference::Reference,
    report::Report,
    side::Side,
    start,
    wire::{Attention, Load, Loaded, Question, Tokens, Weights},
    workload::{self, CONTEXT, Prompts, SEQUENCES, Workload},
};

/// Settings of llama.cpp for each workload.
const SETTINGS: [(&str, Attention); 2] = [("flash", Attention::Flash), ("plain", Attention::Plain)];

/// Both sides with one model.
struct Both<'a> {
    options: &'a Options,
    model: PathBuf,
    ours: Option<Side>,
    theirs: Side,
    prompts: Prompts,
    report: Report,
}

/// Measures one model.
pub(crate) fn measure(model: &Path, options: &Options, text: &str, memory: &Memory) -> Report {
    start::warm_up(model);
    let mut both = Both::load(model, options, text);
    let workloads = options.workloads();
    // Round 0 warms both sides up and does not count.
    for round in 0..=options.rounds {
        eprintln!("{}: round {round} of {}", both.report.model, options.rounds);
        workloads.iter().for_each(|workload| both.workload(*workload, round, memory));
    }
    for _ in 0..options.rounds {
        both.start();
    }
    both.answers();
    both.perplexity();
    both.report
}

impl<'a> Both<'a> {
    fn load(model: &Path, options: &'a Options, text: &str) -> Self {
        let threads = options.threads;
        let (mut ours, mut theirs) = (Side::ours(threads), Side::theirs(threads));
        let load = Question::Load(Load {
            model: model.to_owned(),
            threads,
            context: CONTEXT,
            sequences: SEQUENCES as u32,
            mapped: true,
            attention: Attention::Flash,
        });
        let refused = ours.ask::<Loaded>(&load).err();
        let loaded: Loaded = theirs.ask(&load).unwrap_or_else(|why| panic!("llama.cpp: {why}"));
        eprintln!("{} is loaded; llama.cpp took {:.2} s", model.display(), loaded.seconds);
        let weights: Weights = theirs.ask(&Question::Weights { model: model.to_owned() }).expect("the model is loaded");
        let Tokens { tokens } = theirs.ask(&Question::Tokenise { text: text.into() }).expect("the model is loaded");
        let name = model.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let ours = refused.is_none().then_some(ours);
        let report = Report { model: name, weights: weights.bytes, refused, ..Report::default() };
        Self { options, model: model.to_owned(), ours, theirs, prompts: Prompts::new(tokens), report }
    }

    /// Runs one round of one workload. The side that starts alternates.
    fn workload(&mut self, workload: Workload, round: usize, memory: &Memory) {
        let prompts = self.prompts.of(workload);
        let bandwidth = (workload == Workload::Draw).then(|| memory.bandwidth());
        if round > 0 {
            self.report.bandwidth.extend(bandwidth);
        }
        let ours_first = round.is_multiple_of(2);
        if ours_first {
            self.ours(workload, round, &prompts, bandwidth);
        }
        for (setting, attention) in SETTINGS {
            let measured = workload.run(&mut self.theirs, &prompts, attention);
            let mut measured = measured.unwrap_or_else(|why| panic!("llama.cpp, {workload:?}: {why}"));
            measured.extend(bandwidth.map(|bandwidth| workload::share(&measured, self.report.weights, bandwidth)));
            if round > 0 {
                self.report.rows.theirs(setting, measured);
            }
        }
        if !ours_first {
            self.ours(workload, round, &prompts, bandwidth);
        }
    }

    fn ours(&mut self, workload: Workload, round: usize, prompts: &[Vec<u32>], bandwidth: Option<f64>) {
        let Some(side) = &mut self.ours else { return };
        let measured = workload.run(side, prompts, Attention::Plain);
        let mut measured = measured.unwrap_or_else(|why| panic!("rbee, {workload:?}: {why}"));
        measured.extend(bandwidth.map(|bandwidth| workload::share(&measured, self.report.weights, bandwidth)));
        if round > 0 {
            self.report.rows.ours(measured);
        }
    }

    fn start(&mut self) {
        if self.options.wants(Only::Start) {
            let (threads, has_ours) = (self.options.threads, self.ours.is_some());
            start::round(&self.model, threads, has_ours, &mut self.prompts, &mut self.report.rows)
                .unwrap_or_else(|why| panic!("{}: {why}", self.model.display()));
        }
    }

    fn answers(&mut self) {
        let Some(side) = self.ours.as_mut().filter(|_| self.options.wants(Only::Answers)) else { return };
        match Reference::of(&self.model) {
            Some(reference) => {
                let agreement = reference.compare(side);
                self.report.agreement = Some(agreement.unwrap_or_else(|why| panic!("rbee answers: {why}")));
            }
            None => self.report.skipped.push("answers: worker/tests/reference has no reference of this file".into()),
        }
    }

    fn perplexity(&mut self) {
        if self.ours.is_none() || !self.options.wants(Only::Perplexity) {
            return;
        }
        let Some(text) = Reference::of(&self.model).and_then(|reference| reference.perplexity) else { return };
        match perplexity::measure(&self.model, self.options.threads, &text.tokens) {
            Ok(measured) => self.report.perplexity = measured,
            Err(why) => self.report.skipped.push(format!("perplexity: {why}")),
        }
    }
}
