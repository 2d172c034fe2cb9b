//! A hive of this machine, as other processes find it: its process, the way its last run ended, and the start of another run
//! that outlives the process that starts it.
//!
//! A hive writes the identity of its process to a file once it holds its ledger, and deletes the file when it stops cleanly.
//! The file of a run that was killed names no running process: the identity is compared, because the number alone may belong
//! to another program by now.

use std::{
    fs, io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rbee_schema::{ByteSize, HiveName};
use tracing::warn;

use crate::{
    output,
    process::{Identity, Process},
};

/// A hive of this machine, running or not.
#[derive(Debug, Clone)]
pub struct LocalHive {
    folder: PathBuf,
}

impl LocalHive {
    /// The hive of this name with this data folder.
    pub fn new(data: &Path, hive: &HiveName) -> Self {
        Self { folder: data.join(format!("hive-{hive}")) }
    }

    /// Folder of the ledger.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Log of a hive that [`start`](Self::start) has started.
    pub fn log(&self) -> PathBuf {
        self.folder.join("hive.log")
    }

    /// Process of the hive, where it runs.
    pub fn running(&self) -> Option<Process> {
        let written: Identity = serde_json::from_slice(&fs::read(self.process_file()).ok()?).ok()?;
        // Opened first, then compared: it cannot become another process in between.
        let process = Process::open(written.pid).ok().filter(|process| process.identity == written)?;
        // Its parent may not reap it, as in many containers.
        (!process.has_ended()).then_some(process)
    }

    /// True where the last run stopped cleanly, or there was none.
    pub fn stopped_cleanly(&self) -> bool {
        !self.process_file().exists()
    }

    /// Starts a run of the hive with `command`. It outlives this process, and a Ctrl-C meant for this process does not reach
    /// it. A log larger than `log_size` is rotated first.
    ///
    /// # Errors
    /// When the program cannot be started, or its log cannot be written.
    pub fn start(&self, command: &mut Command, log_size: ByteSize) -> io::Result<Process> {
        fs::create_dir_all(&self.folder)?;
        output::rotate(&self.log(), log_size);
        // A pipe would end the hive when this process is gone.
        let log = output::append(&self.log())?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        Process::spawn(command)
    }

    /// Notes that this process is the hive. Only for the holder of the ledger.
    pub(crate) fn enter(&self) -> io::Result<()> {
        let ours = Process::open(std::process::id())?;
        let whole = self.process_file().with_extension("new");
        fs::write(&whole, serde_json::to_vec(&ours.identity)?)?;
        fs::rename(&whole, self.process_file())
    }

    /// Notes that this process was the hive and stops cleanly.
    pub(crate) fn leave(&self) {
        if let Err(error) = fs::remove_file(self.process_file()) {
            warn!(path = %self.process_file().display(), %error, "failed to note that the hive has stopped cleanly");
        }
    }

    fn process_file(&self) -> PathBuf {
        self.folder.join("process.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(data: &Path) -> LocalHive {
        LocalHive::new(data, &"h".parse().expect("a name"))
    }

    #[test]
    fn hive_is_found_from_enter_until_leave() {
        let data = tempfile::tempdir().expect("a folder");
        let hive = local(data.path());
        fs::create_dir_all(hive.folder()).expect("made");
        assert!(hive.running().is_none() && hive.stopped_cleanly());
        hive.enter().expect("written");
        assert_eq!(hive.running().map(|process| process.pid()), Some(std::process::id()));
        assert!(!hive.stopped_cleanly());
        hive.leave();
        assert!(hive.running().is_none() && hive.stopped_cleanly());
    }

    #[test]
    fn other_process_with_the_number_of_a_hive_is_not_taken_for_it() {
        let data = tempfile::tempdir().expect("a folder");
        let hive = local(data.path());
        fs::create_dir_all(hive.folder()).expect("made");
        let ours = Process::open(std::process::id()).expect("we live").identity;
        let earlier = Identity { started: ours.started - 1, ..ours.clone() };
        let before_the_boot = Identity { boot: "another".to_owned(), ..ours };
        for other in [earlier, before_the_boot] {
            fs::write(hive.process_file(), serde_json::to_vec(&other).expect("serializes")).expect("written");
            assert!(hive.running().is_none(), "{other:?}");
            assert!(!hive.stopped_cleanly());
        }
        for damaged in ["", "{", "{}", "null"] {
            fs::write(hive.process_file(), damaged).expect("written");
            assert!(hive.running().is_none(), "{damaged}");
        }
    }

    #[tokio::test]
    async fn started_hive_has_its_own_process_group_and_log() {
        let data = tempfile::tempdir().expect("a folder");
        let hive = local(data.path());
        let mut command = Command::new("sh");
        command.args(["-c", "cut -d ' ' -f 5 /proc/$$/stat; exit 7"]);
        let started = hive.start(&mut command, ByteSize(1000)).expect("sh starts");
        fs::write(hive.process_file(), serde_json::to_vec(&started.identity).expect("serializes")).expect("written");
        let end = started.ended().await.expect("it is watched");
        assert!(hive.running().is_none(), "it has exited, although it was not reaped");
        started.reap();
        assert_eq!((end.code, end.signal), (Some(7), None));
        let log = fs::read_to_string(hive.log()).expect("it was written");
        assert_eq!(log.trim(), started.pid().to_string());
    }
}
