//! `rbee`: the command line.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    rbee_cli::main().await
}
