//! `rbee-worker`: one process, one model. It is started by a hive, which hands it a socket and a name.
//!
//! It ends with 0 when it was told to, 65 when the model cannot be used, 78 when its options are wrong, 69 when the bus
//! cannot be reached and 70 when it is at fault itself (the codes of sysexits.h). Its last line is then the failure as
//! JSON.

use std::{io::IsTerminal as _, process::ExitCode};

use clap::Parser as _;
use rbee_worker::{Options, run};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("RBEE_LOG").unwrap_or_else(|_| "info,async_nats=warn".into()),
        )
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(ended) => {
            eprintln!("{}", serde_json::to_string(&ended.failure).unwrap_or_else(|_| ended.failure.to_string()));
            ExitCode::from(ended.code)
        }
    }
}
