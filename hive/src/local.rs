//! The hive of a name on this machine, as other processes find it: which process it is, whether its last run ended in
//! order, and how another run is started that outlives whoever starts it.
//!
//! A hive writes which process it is once it holds its ledger, and takes that away when it has stopped in order. What an
//! earlier run left there, cut short, names no process that is there: a number alone may be a stranger's by now.

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

/// A hive of this machine, whether it runs or not.
#[derive(Debug, Clone)]
pub struct LocalHive {
    folder: PathBuf,
}

impl LocalHive {
    /// The hive of this name that keeps its data in this folder.
    pub fn new(data: &Path, hive: &HiveName) -> Self {
        Self { folder: data.join(format!("hive-{hive}")) }
    }

    /// Where it keeps what it must not forget.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where it writes to when [`start`](Self::start) has started it.
    pub fn log(&self) -> PathBuf {
        self.folder.join("hive.log")
    }

    /// Its process, where it runs.
    pub fn running(&self) -> Option<Process> {
        let written: Identity = serde_json::from_slice(&fs::read(self.page()).ok()?).ok()?;
        // Taken hold of first, then compared: it cannot become another one in between.
        let process = Process::open(written.pid).ok().filter(|process| process.identity == written)?;
        // Its parent may be one that reaps nobody, as in many a container.
        (!process.has_ended()).then_some(process)
    }

    /// Whether its last run stopped in order, or there was none.
    pub fn stopped_in_order(&self) -> bool {
        !self.page().exists()
    }

    /// Starts a run of it: `command` is the hive's. It outlives us and is not reached by a Ctrl-C that is meant for us. Its
    /// log is set aside first where it is larger than `log_size`.
    ///
    /// # Errors
    /// The program cannot be started, or its log cannot be written.
    pub fn start(&self, command: &mut Command, log_size: ByteSize) -> io::Result<Process> {
        fs::create_dir_all(&self.folder)?;
        output::rotate(&self.log(), log_size);
        // A pipe would end it when we are gone.
        let log = output::append(&self.log())?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        Process::spawn(command)
    }

    /// This process is the hive from now on. Only for who holds its ledger.
    pub(crate) fn enter(&self) -> io::Result<()> {
        let ours = Process::open(std::process::id())?;
        let whole = self.page().with_extension("new");
        fs::write(&whole, serde_json::to_vec(&ours.identity)?)?;
        fs::rename(&whole, self.page())
    }

    /// This process has been the hive, and ends in order.
    pub(crate) fn leave(&self) {
        if let Err(error) = fs::remove_file(self.page()) {
            warn!(path = %self.page().display(), %error, "it cannot be told that the hive has stopped in order");
        }
    }

    fn page(&self) -> PathBuf {
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
    fn a_hive_is_found_from_when_it_enters_until_it_leaves() {
        let data = tempfile::tempdir().expect("a folder");
        let hive = local(data.path());
        fs::create_dir_all(hive.folder()).expect("made");
        assert!(hive.running().is_none() && hive.stopped_in_order());
        hive.enter().expect("written");
        assert_eq!(hive.running().map(|process| process.pid()), Some(std::process::id()));
        assert!(!hive.stopped_in_order());
        hive.leave();
        assert!(hive.running().is_none() && hive.stopped_in_order());
    }

    #[test]
    fn a_stranger_with_the_number_of_a_hive_is_not_taken_for_it() {
        let data = tempfile::tempdir().expect("a folder");
        let hive = local(data.path());
        fs::create_dir_all(hive.folder()).expect("made");
        let ours = Process::open(std::process::id()).expect("we live").identity;
        let earlier = Identity { started: ours.started - 1, ..ours.clone() };
        let before_the_boot = Identity { boot: "another".to_owned(), ..ours };
        for stranger in [earlier, before_the_boot] {
            fs::write(hive.page(), serde_json::to_vec(&stranger).expect("serializes")).expect("written");
            assert!(hive.running().is_none(), "{stranger:?}");
            assert!(!hive.stopped_in_order());
        }
        for damaged in ["", "{", "{}", "null"] {
            fs::write(hive.page(), damaged).expect("written");
            assert!(hive.running().is_none(), "{damaged}");
        }
    }

    #[tokio::test]
    async fn a_run_is_in_a_group_of_its_own_and_writes_to_the_log_and_is_gone_when_it_ends() {
        let data = tempfile::tempdir().expect("a folder");
        let hive = local(data.path());
        let mut command = Command::new("sh");
        command.args(["-c", "cut -d ' ' -f 5 /proc/$$/stat; exit 7"]);
        let started = hive.start(&mut command, ByteSize(1000)).expect("sh starts");
        fs::write(hive.page(), serde_json::to_vec(&started.identity).expect("serializes")).expect("written");
        let end = started.ended().await.expect("it is watched");
        assert!(hive.running().is_none(), "it has ended, although it was not reaped");
        started.reap();
        assert_eq!((end.code, end.signal), (Some(7), None));
        let said = fs::read_to_string(hive.log()).expect("it was written");
        assert_eq!(said.trim(), started.pid().to_string());
    }
}
