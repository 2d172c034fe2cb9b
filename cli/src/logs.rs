//! Log lines of this process: to standard error, or appended to a file.

use std::{
    env,
    fs::{File, OpenOptions},
    io::{self, IsTerminal as _},
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::Path,
    sync::Arc,
};

use rbee_nats::trace::Exporter;
use tracing_subscriber::{
    EnvFilter, Layer as _,
    fmt::{self, writer::BoxMakeWriter},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::error::CliError;

/// Installs the log subscriber. `RBEE_LOG` overrides `filter`. With a collector (its URL and the service name of this
/// process), spans are exported to it; the caller must finish the returned exporter.
///
/// # Errors
/// The file cannot be opened, or the URL of the collector is invalid.
pub(crate) fn start(
    file: Option<&Path>,
    filter: &str,
    collector: Option<(&str, &'static str)>,
) -> Result<Option<Exporter>, CliError> {
    let filter = EnvFilter::try_from_env("RBEE_LOG").unwrap_or_else(|_| filter.into());
    let writer = match file {
        // Each line is one write to the end of the file, so that several processes may share it.
        Some(file) => BoxMakeWriter::new(Arc::new(open(file)?)),
        None => BoxMakeWriter::new(io::stderr),
    };
    let use_color = file.is_none() && io::stderr().is_terminal();
    let lines = fmt::layer()
        .with_writer(writer)
        .with_ansi(use_color)
        // A line that cannot be written is dropped. A report on standard error would panic if that is closed too.
        .log_internal_errors(false);
    let lines = if file.is_none() && stderr_is_journal() {
        // The journal stamps each line itself.
        lines.without_time().with_filter(filter).boxed()
    } else {
        lines.with_filter(filter).boxed()
    };
    let exporter = collector.map(|(url, service)| Exporter::start(url, service)).transpose();
    let exporter = exporter.map_err(CliError::usage)?;
    tracing_subscriber::registry().with(lines).with(exporter.as_ref().map(Exporter::layer)).init();
    Ok(exporter)
}

fn open(file: &Path) -> Result<File, CliError> {
    let opened = OpenOptions::new().create(true).append(true).open(file);
    opened.map_err(|error| {
        CliError::usage(format!(
            "failed to open the log file {}: {error}; choose another with --log-file",
            file.display()
        ))
    })
}

/// True if standard error goes to the systemd journal. The variable alone is no proof: child processes inherit it even
/// when their standard error is redirected.
fn stderr_is_journal() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else { return false };
    let stderr = io::stderr().as_fd().try_clone_to_owned().map(File::from).and_then(|stderr| stderr.metadata());
    stderr.is_ok_and(|stderr| is_stream(&stream, stderr.dev(), stderr.ino()))
}

/// True if `JOURNAL_STREAM` names this device and inode (systemd.exec(5)).
fn is_stream(stream: &str, device: u64, inode: u64) -> bool {
    stream.split_once(':').is_some_and(|(at, number)| at.parse() == Ok(device) && number.parse() == Ok(inode))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn stderr_is_the_journal_only_if_device_and_inode_match() {
        assert!(is_stream("8:1234", 8, 1234));
        for other in ["8:1235", "9:1234", "8", "", "8:", ":1234", "a:b"] {
            assert!(!is_stream(other, 8, 1234), "{other}");
        }
    }

    #[test]
    fn a_log_file_is_appended_to() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let file = folder.path().join("rbee.log");
        for line in ["one\n", "two\n"] {
            open(&file).expect("it can be opened").write_all(line.as_bytes()).expect("it can be written");
        }
        assert_eq!(std::fs::read_to_string(&file).expect("it can be read"), "one\ntwo\n");
        let nowhere = open(&folder.path().join("no/such/folder.log")).expect_err("the folder does not exist");
        assert!(nowhere.message().contains("--log-file"), "{}", nowhere.message());
    }
}
