//! The report of one model, as tables and as JSON.

use rbee_bench::table::{Samples, aligned};
use serde_json::{Value, json};

use crate::{
    perplexity::Perplexity,
    reference::Agreement,
    row::{Better, Row, Rows},
};

/// Results of one model.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) model: String,
    /// Bytes of weights that are read for each token.
    pub(crate) weights: u64,
    /// The reason why our side cannot run the model.
    pub(crate) refused: Option<String>,
    /// Memory bandwidth of each round, in bytes per second.
    pub(crate) bandwidth: Vec<f64>,
    pub(crate) rows: Rows,
    pub(crate) agreement: Option<Agreement>,
    pub(crate) perplexity: Vec<Perplexity>,
    /// Measurements that were skipped, each with its reason.
    pub(crate) skipped: Vec<String>,
}

impl Report {
    pub(crate) fn json(&self) -> Value {
        json!({
            "model": self.model,
            "weights": self.weights,
            "refused": self.refused,
            "bandwidth": self.bandwidth,
            "rows": self.rows.0.iter().map(Row::json).collect::<Vec<_>>(),
            "answers": self.agreement.as_ref().map(Agreement::json),
            "perplexity": self.perplexity.iter().map(Perplexity::json).collect::<Vec<_>>(),
            "skipped": self.skipped,
        })
    }

    pub(crate) fn print(&self) {
        println!("\n{}: {:.1} MB of weights are read for each token", self.model, self.weights as f64 / 1e6);
        if !self.bandwidth.is_empty() {
            let gigabytes = Samples::rates(self.bandwidth.iter().map(|bytes| bytes / 1e9));
            println!(
                "memory bandwidth: {:.1} GB/s ({:.1}-{:.1})",
                gigabytes.median(),
                gigabytes.least(),
                gigabytes.most()
            );
        }
        if let Some(why) = &self.refused {
            println!("rbee cannot run the model: {why}");
        }
        let header = ["", "rbee", "min-max", "llama.cpp", "min-max", "setting", "ratio", "min-max", "target", ""];
        if !self.rows.0.is_empty() {
            aligned(&header, self.rows.0.iter().map(line));
        }
        self.print_references();
        self.skipped.iter().for_each(|why| println!("skipped: {why}"));
    }

    fn print_references(&self) {
        if let Some(Agreement { tokens, near_ties, different }) = &self.agreement {
            println!(
                "answers: {} of {tokens} tokens differ where two tokens were about equally likely",
                near_ties.len()
            );
            match different.is_empty() {
                true => println!("         and none differ elsewhere"),
                false => {
                    println!("         and {} differ elsewhere (prompt, index, gap): {different:?}", different.len());
                }
            }
        }
        if !self.perplexity.is_empty() {
            let header = ["perplexity", "rbee", "llama.cpp", "ratio", ""];
            aligned(
                &header,
                self.perplexity.iter().map(|of| {
                    let ours = of.ours.as_ref().map_or_else(Clone::clone, |ours| format!("{ours:.4}"));
                    let ratio = of.ratio().map_or("-".into(), |ratio| format!("{ratio:.4}"));
                    vec![of.file.clone(), ours, format!("{:.4}", of.theirs), ratio, verdict(of.is_met()).into()]
                }),
            );
        }
    }
}

fn line(row: &Row) -> Vec<String> {
    let shown = |samples: Option<&Samples>| samples.map_or("-".into(), Samples::shown_median);
    let (ours, theirs, ratios) = (row.ours(), row.theirs(), row.ratios());
    let (setting, theirs) = theirs.unzip();
    let aim = row.kind.aim.map_or(String::new(), |aim| match row.kind.better {
        Better::More => format!(">= {aim:.1}"),
        Better::Less => format!("<= {aim:.1}"),
    });
    vec![
        row.kind.name.clone(),
        shown(ours.as_ref()),
        range(ours.as_ref()),
        shown(theirs.as_ref()),
        range(theirs.as_ref()),
        setting.unwrap_or_default().into(),
        shown(ratios.as_ref()),
        range(ratios.as_ref()),
        aim,
        verdict(row.is_met()).into(),
    ]
}

fn range(samples: Option<&Samples>) -> String {
    samples.map_or(String::new(), |samples| format!("{}-{}", samples.shown_least(), samples.shown_most()))
}

fn verdict(is_met: Option<bool>) -> &'static str {
    match is_met {
        Some(true) => "met",
        Some(false) => "missed",
        None => "",
    }
}
