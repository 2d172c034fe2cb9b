//! `rbee pull`: a model file is fetched from the hub.

use std::io::IsTerminal as _;

use clap::Args;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use rbee_nats::Bus;
use rbee_schema::{Failure, HiveCommand, HiveEvent, HiveName, ModelReference};
use serde_json::json;

use crate::{
    Setting,
    order::{self, Heard, Hives, hub_reference},
    outcome::Outcome,
    show,
};

/// Options of `rbee pull`.
#[derive(Debug, Args)]
pub struct Pull {
    /// Which file: hf:owner/repo[@revision][/file.gguf].
    #[arg(value_parser = hub_reference, value_name = "REFERENCE")]
    reference: ModelReference,
    #[command(flatten)]
    hives: Hives,
}

impl Pull {
    pub(crate) async fn run(self, setting: Setting) -> Result<(), Outcome> {
        let bus = setting.bus("cli/pull").await?;
        let hives = self.hives.find(&bus).await?;
        let is_shown = std::io::stdout().is_terminal() && !setting.json;
        let bars = MultiProgress::with_draw_target(match is_shown {
            true => ProgressDrawTarget::stdout(),
            false => ProgressDrawTarget::hidden(),
        });
        let orders = hives.into_iter().map(|hive| {
            let bar = bars.add(bar(&hive));
            fetch(&setting, bus.clone(), hive, self.reference.clone(), bar)
        });
        order::all(orders).await
    }
}

fn bar(hive: &HiveName) -> ProgressBar {
    let template = "{prefix} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    // The template is a constant; without it there would be the usual bar.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style.progress_chars("=> ")).with_prefix(hive.to_string())
}

async fn fetch(
    setting: &Setting,
    bus: Bus,
    hive: HiveName,
    reference: ModelReference,
    bar: ProgressBar,
) -> Result<(), Outcome> {
    let command = HiveCommand::Fetch { reference: reference.clone() };
    let answer = order::give(setting, &bus, &hive, &command, |event| hear(event, &reference, &bar)).await;
    bar.finish_and_clear();
    let File { bytes, sha256 } = answer?.map_err(|failure| Outcome::failed(format!("hive {hive}: {failure}")))?;
    if setting.json {
        println!("{}", json!({ "hive": hive, "reference": reference, "bytes": bytes, "sha256": sha256 }));
    } else {
        println!("{reference} is on {hive}: {}, SHA-256 {sha256}", show::bytes(bytes));
    }
    Ok(())
}

/// What was fetched.
#[derive(Debug)]
struct File {
    bytes: u64,
    sha256: String,
}

/// What an event of the hive says about the fetch; shows how far it is.
fn hear(event: HiveEvent, wanted: &ModelReference, bar: &ProgressBar) -> Heard<Result<File, Failure>> {
    if let HiveEvent::FetchProgress { reference, done_bytes, total_bytes } = &event
        && reference == wanted
    {
        bar.set_length(*total_bytes);
        bar.set_position(*done_bytes);
        return Heard::Progress;
    }
    if let HiveEvent::Fetched { reference, bytes, sha256 } = &event
        && reference == wanted
    {
        return Heard::Answer(Ok(File { bytes: *bytes, sha256: sha256.clone() }));
    }
    if let HiveEvent::FetchFailed { reference, failure } = event
        && reference == *wanted
    {
        return Heard::Answer(Err(failure));
    }
    Heard::Nothing
}

#[cfg(test)]
mod tests {
    use rbee_schema::FailureCode;

    use super::*;

    #[test]
    fn progress_of_this_file_is_shown_and_its_end_is_the_answer() {
        let bar = bar(&"pi".parse().expect("a name"));
        let [wanted, other] = ["hf:o/r/m.gguf", "hf:o/r/n.gguf"].map(|text| hub_reference(text).expect("a reference"));
        let progress = |reference: &ModelReference| HiveEvent::FetchProgress {
            reference: reference.clone(),
            done_bytes: 5,
            total_bytes: 9,
        };
        assert!(matches!(hear(progress(&other), &wanted, &bar), Heard::Nothing));
        assert!(matches!(hear(progress(&wanted), &wanted, &bar), Heard::Progress));
        assert_eq!((bar.position(), bar.length()), (5, Some(9)));
        let fetched = HiveEvent::Fetched { reference: wanted.clone(), bytes: 9, sha256: String::new() };
        assert!(matches!(hear(fetched, &wanted, &bar), Heard::Answer(Ok(File { bytes: 9, .. }))));
        let failure = Failure::new(FailureCode::DiskFull, "full");
        let failed = HiveEvent::FetchFailed { reference: wanted.clone(), failure };
        assert!(matches!(hear(failed, &wanted, &bar), Heard::Answer(Err(_))));
    }
}
