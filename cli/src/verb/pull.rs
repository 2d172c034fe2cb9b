//! `rbee pull`: hives fetch a model file from the hub.

use std::io::IsTerminal as _;

use clap::Args;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use rbee_nats::Bus;
use rbee_schema::{Failure, HiveCommand, HiveEvent, HiveName, ModelReference, parse_hub_reference};
use serde_json::json;

use crate::{
    Context,
    error::CliError,
    hive_command::{HiveSelection, Reply, join_all_reporting, request},
    output,
    output::say,
};

/// Options of `rbee pull`.
#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// File on the hub: hf:owner/repo[@revision][/file.gguf].
    #[arg(value_parser = parse_hub_reference, value_name = "REFERENCE")]
    reference: ModelReference,
    #[command(flatten)]
    hives: HiveSelection,
}

impl Pull {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        let bus = context.bus("cli/pull").await?;
        let hives = self.hives.find(&bus).await?;
        let show_progress = std::io::stdout().is_terminal() && !context.json;
        let bars = MultiProgress::with_draw_target(match show_progress {
            true => ProgressDrawTarget::stdout(),
            false => ProgressDrawTarget::hidden(),
        });
        let requests = hives.into_iter().map(|hive| {
            let bar = bars.add(progress_bar(&hive));
            fetch(&context, bus.clone(), hive, self.reference.clone(), bar)
        });
        join_all_reporting(requests).await
    }
}

fn progress_bar(hive: &HiveName) -> ProgressBar {
    let template = "{prefix} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    // The template is a constant and valid; the default bar would do as well.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style.progress_chars("=> ")).with_prefix(hive.to_string())
}

async fn fetch(
    context: &Context,
    bus: Bus,
    hive: HiveName,
    reference: ModelReference,
    bar: ProgressBar,
) -> Result<(), CliError> {
    let command = HiveCommand::Fetch { reference: reference.clone() };
    let answer = request(context, &bus, &hive, &command, |event| classify(event, &reference, &bar)).await;
    bar.finish_and_clear();
    let FetchedFile { bytes, sha256 } =
        answer?.map_err(|failure| CliError::failed(format!("hive {hive} failed to fetch {reference}: {failure}")))?;
    if context.json {
        say!("{}", json!({ "hive": hive, "reference": reference, "bytes": bytes, "sha256": sha256 }));
    } else {
        say!("{reference} is on {hive}: {}, SHA-256 {sha256}", output::bytes(bytes));
    }
    Ok(())
}

/// A model file on a hive.
#[derive(Debug)]
struct FetchedFile {
    bytes: u64,
    sha256: String,
}

/// Effect of a hive's event on the fetch of the file `wanted`. Progress moves the bar.
fn classify(event: HiveEvent, wanted: &ModelReference, bar: &ProgressBar) -> Reply<Result<FetchedFile, Failure>> {
    match event {
        HiveEvent::FetchProgress { reference, done_bytes, total_bytes } if reference == *wanted => {
            bar.set_length(total_bytes);
            bar.set_position(done_bytes);
            Reply::Progress
        }
        HiveEvent::Fetched { reference, bytes, sha256 } if reference == *wanted => {
            Reply::Answer(Ok(FetchedFile { bytes, sha256 }))
        }
        HiveEvent::FetchFailed { reference, failure } if reference == *wanted => Reply::Answer(Err(failure)),
        _ => Reply::Unrelated,
    }
}

#[cfg(test)]
mod tests {
    use rbee_schema::FailureCode;

    use super::*;

    #[test]
    fn only_events_of_the_requested_file_count() {
        let bar = progress_bar(&"pi".parse().expect("a name"));
        let [wanted, other] =
            ["hf:o/r/m.gguf", "hf:o/r/n.gguf"].map(|text| parse_hub_reference(text).expect("a reference"));
        let progress = |reference: &ModelReference| HiveEvent::FetchProgress {
            reference: reference.clone(),
            done_bytes: 5,
            total_bytes: 9,
        };
        let fetched = |reference: &ModelReference| HiveEvent::Fetched {
            reference: reference.clone(),
            bytes: 9,
            sha256: String::new(),
        };
        let failed = |reference: &ModelReference| HiveEvent::FetchFailed {
            reference: reference.clone(),
            failure: Failure::new(FailureCode::DiskFull, "full"),
        };
        for event in [progress(&other), fetched(&other), failed(&other)] {
            assert!(matches!(classify(event, &wanted, &bar), Reply::Unrelated));
        }
        assert_eq!((bar.position(), bar.length()), (0, Some(0)));
        assert!(matches!(classify(progress(&wanted), &wanted, &bar), Reply::Progress));
        assert_eq!((bar.position(), bar.length()), (5, Some(9)));
        let answer = classify(fetched(&wanted), &wanted, &bar);
        assert!(matches!(answer, Reply::Answer(Ok(FetchedFile { bytes: 9, .. }))));
        let answer = classify(failed(&wanted), &wanted, &bar);
        assert!(matches!(answer, Reply::Answer(Err(Failure { code: FailureCode::DiskFull, .. }))));
    }
}
