//! Processes of a fleet, as the kernel reports them in `/proc`.

use std::{collections::BTreeSet, fs, process::Command};

/// Environment variable that marks every process of a fleet, so that exactly those can be ended: workers outlive their hive.
pub(super) const MARK: &str = "RBEE_TEST_FLEET";

/// A live process of a fleet. A process that has exited and was not reaped is not live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningProcess {
    /// Process number in the namespace of the test.
    pub pid: u32,
    /// Process number as its hive sees it: a different one where the hive runs in a process namespace of its own.
    pub inner_pid: u32,
    /// The run of a worker that the process belongs to.
    pub run: Option<Run>,
    /// Inodes of its open sockets.
    pub sockets: BTreeSet<u64>,
}

/// The run of a worker, which a hive writes into the environment of the worker's processes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    /// Id of the hive's state folder.
    pub state_id: String,
    /// Name of the worker.
    pub worker: String,
    /// Number of the run.
    pub epoch: u64,
}

impl Run {
    /// Environment variable that holds the run.
    pub const VARIABLE: &'static str = "RBEE_RUN";

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let (state_id, worker, epoch) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self { state_id: state_id.to_owned(), worker: worker.to_owned(), epoch: epoch.parse().ok()? })
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.state_id, self.worker, self.epoch)
    }
}

impl RunningProcess {
    /// The live processes whose environment holds this mark.
    pub(super) fn marked(mark: &str) -> Vec<Self> {
        marked(mark).into_iter().filter_map(Self::inspect).collect()
    }

    fn inspect(pid: u32) -> Option<Self> {
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let run = environment.split(|byte| *byte == 0).find_map(|entry| {
            let mark = entry.strip_prefix(Run::VARIABLE.as_bytes())?.strip_prefix(b"=")?;
            Run::parse(std::str::from_utf8(mark).ok()?)
        });
        Some(Self { pid, inner_pid: inner_pid(pid)?, run, sockets: sockets(pid) })
    }
}

/// The last number of the line `NSpid` of `/proc/PID/status` (proc_pid_status(5)); `None` for a process that has exited.
fn inner_pid(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if field("State:")?.starts_with(['Z', 'X']) {
        return None;
    }
    field("NSpid:")?.split_whitespace().last()?.parse().ok()
}

fn sockets(pid: u32) -> BTreeSet<u64> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let links = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    links.filter_map(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()).collect()
}

/// The inode of the socket that listens on this port in the network namespace of a process: state 0A of
/// `/proc/PID/net/tcp` (proc_net_tcp(5)).
pub(crate) fn listener(pid: u32, port: u16) -> Option<u64> {
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).ok()?;
    let local = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.get(1)?.ends_with(&local) && fields.get(3) == Some(&"0A")).then(|| fields.get(9)?.parse().ok())?
    })
}

/// The processes whose environment holds this mark.
pub(super) fn marked(mark: &str) -> Vec<u32> {
    let entry = format!("{MARK}={mark}");
    let processes = fs::read_dir("/proc").expect("/proc is readable").flatten();
    let numbers = processes.filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok());
    let has_mark = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|found| found == entry.as_bytes())
    };
    numbers.filter(has_mark).collect()
}

/// Kills every process whose environment holds this mark.
pub(super) fn kill_marked(mark: &str) {
    for pid in marked(mark) {
        // It may have exited meanwhile.
        let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
    }
}

/// Sends a signal to a process that a test has started.
///
/// # Panics
/// When the signal cannot be sent.
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status();
    assert!(sent.expect("kill(1) is installed").success(), "SIG{name} to {pid}");
}
