//! Where a process writes what it does: to standard error, or to the end of a file.

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

use crate::outcome::Outcome;

/// Writes from now on what `filter` lets through; `RBEE_LOG` has precedence. Spans go to the collector, where there is one,
/// under the name of a service.
pub(crate) fn start(
    file: Option<&Path>,
    filter: &str,
    collector: Option<(&str, &'static str)>,
) -> Result<Option<Exporter>, Outcome> {
    let filter = EnvFilter::try_from_env("RBEE_LOG").unwrap_or_else(|_| filter.into());
    let writer = match file {
        // Each line is one write to the end of the file, so that several processes may share it.
        Some(file) => BoxMakeWriter::new(Arc::new(open(file)?)),
        None => BoxMakeWriter::new(io::stderr),
    };
    let in_colour = file.is_none() && io::stderr().is_terminal();
    let lines = fmt::layer()
        .with_writer(writer)
        .with_ansi(in_colour)
        // A line that cannot be written is lost. To say so on standard error would panic where nobody reads that.
        .log_internal_errors(false);
    let lines = if file.is_none() && stderr_is_journal() {
        // The journal knows the time of each line.
        lines.without_time().with_filter(filter).boxed()
    } else {
        lines.with_filter(filter).boxed()
    };
    let exporter = collector.map(|(url, service)| Exporter::start(url, service)).transpose();
    let exporter = exporter.map_err(Outcome::usage)?;
    tracing_subscriber::registry().with(lines).with(exporter.as_ref().map(Exporter::layer)).init();
    Ok(exporter)
}

fn open(file: &Path) -> Result<File, Outcome> {
    let opened = OpenOptions::new().create(true).append(true).open(file);
    opened.map_err(|error| {
        Outcome::usage(format!("{} cannot be written: {error}; choose another with --log-file", file.display()))
    })
}

/// Whether standard error goes to the journal of systemd. The variable alone says nothing: children inherit it, whatever
/// becomes of their standard error.
fn stderr_is_journal() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else { return false };
    let stderr = io::stderr().as_fd().try_clone_to_owned().map(File::from).and_then(|stderr| stderr.metadata());
    stderr.is_ok_and(|stderr| is_stream(&stream, stderr.dev(), stderr.ino()))
}

/// Whether `JOURNAL_STREAM` names this device and inode (systemd.exec(5)).
fn is_stream(stream: &str, device: u64, inode: u64) -> bool {
    stream.split_once(':').is_some_and(|(at, number)| at.parse() == Ok(device) && number.parse() == Ok(inode))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn standard_error_is_the_journal_only_where_both_numbers_agree() {
        assert!(is_stream("8:1234", 8, 1234));
        for other in ["8:1235", "9:1234", "8", "", "8:", ":1234", "a:b"] {
            assert!(!is_stream(other, 8, 1234), "{other}");
        }
    }

    #[test]
    fn a_log_file_is_gone_on_with() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let file = folder.path().join("rbee.log");
        for line in ["one\n", "two\n"] {
            open(&file).expect("it can be opened").write_all(line.as_bytes()).expect("it can be written");
        }
        assert_eq!(std::fs::read_to_string(&file).expect("it can be read"), "one\ntwo\n");
        let nowhere = open(&folder.path().join("no/such/folder.log")).expect_err("the folder is not there");
        assert!(nowhere.message().contains("--log-file"), "{}", nowhere.message());
    }
}
