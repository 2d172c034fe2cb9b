//! What the kernel says of the processes of a fleet.

use std::{collections::BTreeSet, fs};

use super::{Fleet, marked};

/// A process of a fleet that lives. One that has ended and was not reaped does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningProcess {
    /// Its number here.
    pub pid: u32,
    /// Its number as its own hive sees it: another one where that runs in a namespace of its own.
    pub inner_pid: u32,
    /// The run of a worker that it belongs to.
    pub run: Option<Run>,
    /// The sockets that it has open, by their inodes.
    pub sockets: BTreeSet<u64>,
}

/// The mark that a hive gives to the processes of its workers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    /// The hive's state folder.
    pub state_id: String,
    /// The worker.
    pub worker: String,
    /// Which run of it.
    pub epoch: u64,
}

impl Run {
    /// The variable that holds it.
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

impl Fleet {
    /// The processes of this fleet that live, and what each has.
    pub fn running(&self) -> Vec<RunningProcess> {
        marked(&self.mark).into_iter().filter_map(RunningProcess::look).collect()
    }
}

impl RunningProcess {
    fn look(pid: u32) -> Option<Self> {
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let run = environment.split(|byte| *byte == 0).find_map(|entry| {
            let mark = entry.strip_prefix(Run::VARIABLE.as_bytes())?.strip_prefix(b"=")?;
            Run::parse(std::str::from_utf8(mark).ok()?)
        });
        Some(Self { pid, inner_pid: inner_pid(pid)?, run, sockets: sockets(pid) })
    }
}

/// The last number of the line `NSpid` of `/proc/PID/status` (proc_pid_status(5)); none for one that has ended.
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

/// The inode of the socket that listens on this port of the machine of a process: state 0A of `/proc/PID/net/tcp`
/// (proc_net_tcp(5)).
pub(crate) fn listener(pid: u32, port: u16) -> Option<u64> {
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).ok()?;
    let local = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.get(1)?.ends_with(&local) && fields.get(3) == Some(&"0A")).then(|| fields.get(9)?.parse().ok())?
    })
}
