//! The mark in the environment of every process of a worker's run. By it, orphans are found whatever session, process group
//! or cgroup they have moved to.

use std::{fmt, fs};

use nix::sys::signal::Signal;
use rbee_schema::WorkerName;

use super::PidFd;

/// Environment variable with the mark. Children inherit it.
const VARIABLE: &str = "RBEE_RUN";

/// Rounds of a kill. A process that starts another during one round is met by the next; more rounds than this would be
/// needed only for a program that forks faster than it can be killed.
const ROUNDS: usize = 10;

/// One run of a worker, of the hive that has this state folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunMark {
    pub(crate) state_id: String,
    pub(crate) worker: WorkerName,
    pub(crate) epoch: u64,
}

impl fmt::Display for RunMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.state_id, self.worker, self.epoch)
    }
}

impl RunMark {
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split('/');
        let (state_id, worker, epoch) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Self { state_id: state_id.to_owned(), worker: worker.parse().ok()?, epoch: epoch.parse().ok()? })
    }

    /// The environment variable that carries the mark.
    pub(crate) fn variable(&self) -> (&'static str, String) {
        (VARIABLE, self.to_string())
    }

    /// Kills every process of this run. Returns their numbers.
    pub(crate) fn kill_all(&self) -> Vec<u32> {
        kill_marked(|mark| mark == self)
    }
}

/// Kills every process whose mark is selected. Returns their numbers.
pub(crate) fn kill_marked(is_selected: impl Fn(&RunMark) -> bool) -> Vec<u32> {
    let mut killed = Vec::new();
    for _ in 0..ROUNDS {
        let found: Vec<u32> = marked().into_iter().filter(|(_, mark)| is_selected(mark)).map(|(pid, _)| pid).collect();
        if found.is_empty() {
            break;
        }
        for pid in found {
            if kill(pid, &is_selected) && !killed.contains(&pid) {
                killed.push(pid);
            }
        }
    }
    killed
}

/// Opens the process first, then checks that it still carries a selected mark, so that no other process is killed.
fn kill(pid: u32, is_selected: impl Fn(&RunMark) -> bool) -> bool {
    let Ok(pidfd) = PidFd::open(pid) else { return false };
    mark_of(pid).is_some_and(|mark| is_selected(&mark)) && pidfd.signal(Signal::SIGKILL).is_ok()
}

/// The processes that carry a mark. One that has exited and was not reaped has no environment any more.
fn marked() -> Vec<(u32, RunMark)> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter_map(|pid| Some((pid, mark_of(pid)?))).collect()
}

fn mark_of(pid: u32) -> Option<RunMark> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let entry = environment
        .split(|byte| *byte == 0)
        .find_map(|entry| entry.strip_prefix(VARIABLE.as_bytes())?.strip_prefix(b"="))?;
    RunMark::parse(std::str::from_utf8(entry).ok()?)
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::process::CommandExt as _,
        process::{Child, Command},
        time::{Duration, Instant},
    };

    use super::*;

    fn mark(epoch: u64) -> RunMark {
        RunMark { state_id: format!("test-{}", std::process::id()), worker: "w".parse().expect("a name"), epoch }
    }

    /// A marked shell with a grandchild in a session of its own, out of reach of the process group.
    fn start(epoch: u64) -> Child {
        let mut shell = Command::new("sh");
        shell.args(["-c", "setsid tail -f /dev/null & wait"]).envs([mark(epoch).variable()]).process_group(0);
        shell.spawn().expect("sh starts")
    }

    fn running(epoch: u64) -> usize {
        marked().into_iter().filter(|(_, found)| *found == mark(epoch)).count()
    }

    #[test]
    fn process_tree_of_one_run_is_killed_and_no_other() {
        let (mut killed_shell, mut other) = (start(1), start(2));
        let deadline = Instant::now() + Duration::from_secs(30);
        while running(1) < 2 || running(2) < 2 {
            assert!(Instant::now() < deadline, "the processes do not start");
            std::thread::yield_now();
        }
        let killed = mark(1).kill_all();
        assert!(killed.len() >= 2, "{killed:?}");
        killed_shell.wait().expect("our child");
        assert_eq!(running(2), 2, "the other run is left alone");
        mark(2).kill_all();
        other.wait().expect("our child");
        assert_eq!(running(2), 0);
    }
}
