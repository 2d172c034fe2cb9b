//! `rbee-worker`: one process, one model. It is started by a hive, which hands it a socket and a name.
//!
//! It ends with 0 when it was told to, 65 when the model cannot be used, 78 when its options are wrong, 69 when the bus
//! cannot be reached and 70 when it is at fault itself (the codes of sysexits.h). Its last line is then the failure as
//! JSON.

use std::{io::IsTerminal as _, process::ExitCode};

use clap::Parser as _;
use rbee_nats::trace::{ExportError, Exporter};
use rbee_schema::{Failure, FailureCode};
use rbee_worker::{Ended, Options, run};
use tracing_subscriber::{EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let options = Options::parse();
    let exporter = match start_logs(options.otlp()) {
        Ok(exporter) => exporter,
        Err(error) => {
            return tell(&Ended { failure: Failure::new(FailureCode::InvalidRequest, error.to_string()), code: 78 });
        }
    };
    let ended = run(options).await;
    if let Some(exporter) = exporter {
        exporter.finish().await;
    }
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(ended) => tell(&ended),
    }
}

/// The last line, and the exit code.
fn tell(Ended { failure, code }: &Ended) -> ExitCode {
    eprintln!("{}", serde_json::to_string(failure).unwrap_or_else(|_| failure.to_string()));
    ExitCode::from(*code)
}

/// Log lines to standard error, and spans to a collector where one is named.
fn start_logs(otlp: Option<&str>) -> Result<Option<Exporter>, ExportError> {
    let filter = EnvFilter::try_from_env("RBEE_LOG").unwrap_or_else(|_| "info,async_nats=warn".into());
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_filter(filter);
    let exporter = otlp.map(|url| Exporter::start(url, "rbee-worker")).transpose()?;
    tracing_subscriber::registry().with(lines).with(exporter.as_ref().map(Exporter::layer)).init();
    Ok(exporter)
}
