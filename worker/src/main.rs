//! `rbee-worker`: one process that runs one model. A hive starts it and passes it a name and a socket.
//!
//! Exit codes (sysexits.h): 0 after a drain or SIGTERM, 65 if the model cannot be used, 69 if the bus cannot be reached, 70 if
//! the worker itself is at fault, 78 if the options are wrong. If the code is not 0, the last line of the log is the failure as
//! JSON.

use std::{io::IsTerminal as _, process::ExitCode};

use clap::Parser as _;
use rbee_nats::trace::{ExportError, Exporter};
use rbee_worker::{FatalError, Options, run};
use tracing_subscriber::{EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let options = Options::parse();
    let exporter = match start_logs(options.otlp()) {
        Ok(exporter) => exporter,
        Err(error) => return failed(&FatalError::config(error)),
    };
    let result = run(options).await;
    if let Some(exporter) = exporter {
        exporter.finish().await;
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &FatalError) -> ExitCode {
    error.report();
    ExitCode::from(error.exit_code)
}

/// Writes log lines to standard error, and exports spans if a collector is configured.
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
