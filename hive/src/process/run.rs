//! The mark that every process of a run of a worker carries in its environment, so that what nobody owns is found.

use std::{fmt, fs};

use rbee_schema::WorkerName;
use rustix::process::{Pid, PidfdFlags, Signal};

/// The variable. Children inherit it, whatever session or process group they move to.
pub(crate) const VARIABLE: &str = "RBEE_RUN";

/// One run of a worker of the hive that has this state folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) state_id: String,
    pub(crate) worker: WorkerName,
    pub(crate) epoch: u64,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.state_id, self.worker, self.epoch)
    }
}

impl Run {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let (state_id, worker, epoch) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self { state_id: state_id.to_owned(), worker: worker.parse().ok()?, epoch: epoch.parse().ok()? })
    }

    /// The environment of its processes.
    pub(crate) fn mark(&self) -> (&'static str, String) {
        (VARIABLE, self.to_string())
    }

    /// Kills every process of this run.
    pub(crate) fn kill_all(&self) -> Vec<u32> {
        kill_marked(|run| run == self)
    }
}

/// Kills every process that carries the mark of a run for which `doomed` says so; returns their numbers. A process that
/// starts another meanwhile is met by the next round.
pub(crate) fn kill_marked(doomed: impl Fn(&Run) -> bool) -> Vec<u32> {
    const ROUNDS: usize = 10;
    let mut killed = Vec::new();
    for _ in 0..ROUNDS {
        let found: Vec<u32> = marked().into_iter().filter(|(_, run)| doomed(run)).map(|(pid, _)| pid).collect();
        if found.is_empty() {
            break;
        }
        for pid in found {
            if kill(pid, &doomed) && !killed.contains(&pid) {
                killed.push(pid);
            }
        }
    }
    killed
}

/// Takes hold of the process first, then looks whether it is still one of those.
fn kill(pid: u32, doomed: impl Fn(&Run) -> bool) -> bool {
    let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    let Ok(pidfd) = rustix::process::pidfd_open(number, PidfdFlags::empty()) else { return false };
    mark_of(pid).is_some_and(|run| doomed(&run)) && rustix::process::pidfd_send_signal(&pidfd, Signal::KILL).is_ok()
}

/// The processes that carry a mark. One that has ended and was not reaped has no environment any more.
fn marked() -> Vec<(u32, Run)> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter_map(|pid| Some((pid, mark_of(pid)?))).collect()
}

fn mark_of(pid: u32) -> Option<Run> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let entry = environment
        .split(|byte| *byte == 0)
        .find_map(|entry| entry.strip_prefix(VARIABLE.as_bytes())?.strip_prefix(b"="))?;
    Run::parse(std::str::from_utf8(entry).ok()?)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::CommandExt as _, process::Command};

    use super::*;

    #[test]
    fn a_whole_tree_is_killed_by_its_mark_and_no_other_process() {
        let run = |epoch| Run {
            state_id: format!("test-{}", std::process::id()),
            worker: "w".parse().expect("a name"),
            epoch,
        };
        let start = |epoch: u64| {
            let mut shell = Command::new("sh");
            // A grandchild in a session of its own, out of reach of the process group.
            shell.args(["-c", "setsid tail -f /dev/null & wait"]).envs([run(epoch).mark()]).process_group(0);
            shell.spawn().expect("sh starts")
        };
        let (mut doomed, mut other) = (start(1), start(2));
        let of = |epoch: u64| marked().into_iter().filter(|(_, found)| *found == run(epoch)).count();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while of(1) < 2 || of(2) < 2 {
            assert!(std::time::Instant::now() < deadline, "the processes do not start");
            std::thread::yield_now();
        }
        let killed = run(1).kill_all();
        assert!(killed.len() >= 2, "{killed:?}");
        doomed.wait().expect("our child");
        assert_eq!(of(2), 2, "the other run lives");
        run(2).kill_all();
        other.wait().expect("our child");
        assert_eq!(of(2), 0);
    }
}
