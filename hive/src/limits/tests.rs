//! With real cgroups of this machine: each rule is tried with everything that the machine allows, and with less.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::process::ExitStatusExt as _,
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rbee_schema::{ByteSize, HiveName, LimitMethod, Limits, WorkerName};

use super::{
    cgroup::WorkerCgroup,
    enforcer::{Enforcer, group_name},
    group::Role,
};

const MIB: u64 = 1 << 20;

/// Time within which a killed process leaves its group; a test that waits longer fails.
const SOON: Duration = Duration::from_secs(20);

/// Uses 512 MiB of memory once it reads a line.
const HOG: &str = "import os, sys\n\
    os.write(1, b'up\\n')\n\
    sys.stdin.readline()\n\
    kept = bytearray(512 << 20)\n\
    os.write(1, b'fits')";

/// Becomes three processes once it reads a line, each in a session of its own. Each prints its number and waits for ever.
const TREE: &str = "import os, signal, sys\n\
    os.write(1, b'up\\n')\n\
    sys.stdin.readline()\n\
    for _ in range(2):\n    if os.fork():\n        break\n    os.setsid()\n\
    os.write(1, b'%d\\n' % os.getpid())\n\
    while True:\n    signal.pause()";

/// Everything that the machine allows, and each smaller choice.
fn enforcers(test: &str) -> Vec<Enforcer> {
    let read = |path: &str| fs::read_to_string(path).expect("a file of every process");
    let (mounts, groups) = (read("/proc/self/mountinfo"), read("/proc/self/cgroup"));
    let without = |kind: &str| {
        let kept = |line: &&str| !line.contains(&format!(" - {kind} "));
        mounts.lines().filter(kept).collect::<Vec<_>>().join("\n")
    };
    let of = |what: &str, mounts: &str| {
        let hive = HiveName::from_lossy(&format!("test-{}-{test}-{what}", std::process::id()));
        Enforcer::detect_from(&hive, "test", mounts, &groups)
    };
    let none = of("none", "");
    assert_eq!((none.by(), none.trees.len()), (LimitMethod::RlimitData, 0), "without groups there are rlimits");
    vec![of("all", &mounts), of("only-v2", &without("cgroup")), of("only-v1", &without("cgroup2")), none]
}

/// A process that is killed with its test, and its cgroup, which is removed with it.
struct Limited {
    cgroup: WorkerCgroup,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Limited {
    fn start(enforcer: &Enforcer, limits: &Limits, program: &str) -> Self {
        let cgroup = enforcer.create(&worker(), 7, limits).expect("a cgroup");
        let mut command = Command::new("python3");
        command.args(["-c", program]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("python3 is there");
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().expect("piped")));
        let mut limited = Self { cgroup, child, input, output };
        limited.cgroup.admit(limited.child.id()).expect("admitted");
        assert_eq!(limited.read_line(), "up");
        limited
    }

    fn read_line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("read");
        line.trim_end().to_owned()
    }

    fn go(&mut self) {
        self.input.take().expect("once").write_all(b"go\n").expect("written");
    }

    /// Lets the process continue. Returns the rest of its output, and its exit status.
    fn finish(&mut self) -> (String, ExitStatus) {
        self.go();
        let mut output = String::new();
        self.output.read_to_string(&mut output).expect("read");
        (output, self.child.wait().expect("waited for"))
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        self.cgroup.kill_all();
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.cgroup.is_empty_within(SOON);
        remove_within(&self.cgroup, SOON);
    }
}

/// The processes that still run: `/proc` shows no command line of a process that has exited.
fn alive(pids: &[u32]) -> Vec<u32> {
    let runs = |pid: &u32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|command| !command.is_empty());
    pids.iter().copied().filter(runs).collect()
}

/// Removes the cgroup: a killed process leaves the list of members a moment before it leaves the group.
fn remove_within(cgroup: &WorkerCgroup, time: Duration) -> bool {
    let deadline = Instant::now() + time;
    while cgroup.remove().is_err() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

fn worker() -> WorkerName {
    "w".parse().expect("a name")
}

fn memory(bytes: u64) -> Limits {
    Limits { memory: Some(ByteSize(bytes)), ..Limits::default() }
}

#[test]
fn worker_above_its_memory_limit_is_killed_and_counted_as_oom() {
    for enforcer in enforcers("hog") {
        let mut hog = Limited::start(&enforcer, &memory(64 * MIB), HOG);
        let in_force = hog.cgroup.in_force().expect("memory is limited");
        assert_eq!((in_force.method, in_force.limits), (enforcer.by(), memory(64 * MIB)));
        let (output, status) = hog.finish();
        assert!(!output.contains("fits"), "{:?}: it got the memory", enforcer.by());
        match enforcer.by() {
            LimitMethod::CgroupV2 | LimitMethod::CgroupV1 => {
                assert_eq!(status.signal(), Some(9), "{:?}", enforcer.by());
                assert_eq!(hog.cgroup.oom_kills(), Some(1), "{:?}", enforcer.by());
            }
            LimitMethod::RlimitData => {
                // Python raises MemoryError where Rust aborts.
                assert_eq!(status.code(), Some(1));
                assert_eq!(hog.cgroup.oom_kills(), None);
            }
        }
    }
}

#[test]
fn worker_within_its_memory_limit_is_left_alone() {
    for enforcer in enforcers("modest") {
        let mut modest = Limited::start(&enforcer, &memory(1024 * MIB), HOG);
        let (output, status) = modest.finish();
        assert!(status.success() && output.contains("fits"), "{:?}: {status}", enforcer.by());
        assert_eq!(modest.cgroup.oom_kills().unwrap_or(0), 0);
    }
}

#[test]
fn limits_of_cpu_and_open_files_are_in_force_where_possible() {
    for enforcer in enforcers("others") {
        let limits = Limits { memory: None, cpu_millis: Some(1500), open_files: Some(100) };
        let limited = Limited::start(&enforcer, &limits, TREE);
        let of_process = fs::read_to_string(format!("/proc/{}/limits", limited.child.id())).expect("it runs");
        let files = of_process.lines().find(|line| line.starts_with("Max open files")).expect("listed");
        assert_eq!(files.split_whitespace().collect::<Vec<_>>()[3..5], ["100", "100"]);
        let in_force = limited.cgroup.in_force().expect("open files are limited").limits;
        let cpu = enforcer.trees.iter().find(|tree| matches!(tree.role, Role::Cpu | Role::Unified { cpu: true }));
        assert_eq!(in_force, Limits { cpu_millis: cpu.and(Some(1500)), ..limits });
        if let Some(tree) = cpu {
            let folder = tree.base.join(&enforcer.folder).join(group_name(&worker(), 7));
            let file = if tree.role == Role::Cpu { "cpu.cfs_quota_us" } else { "cpu.max" };
            assert!(fs::read_to_string(folder.join(file)).expect("there").starts_with("150000"));
        }
    }
}

#[test]
fn only_enforced_limits_are_reported() {
    for enforcer in enforcers("free") {
        let cgroup = enforcer.create(&worker(), 1, &Limits::default()).expect("a cgroup");
        assert_eq!(cgroup.in_force(), None);
        cgroup.remove().expect("it is empty");
        cgroup.remove().expect("repeating it does no harm");
        let most = super::rlimit::most_open_files();
        let limits = Limits { open_files: Some(u32::MAX), ..Limits::default() };
        let cgroup = enforcer.create(&worker(), 1, &limits).expect("a cgroup");
        let files = cgroup.in_force().and_then(|in_force| in_force.limits.open_files);
        assert_eq!(files.map(u64::from), Some(most.min(u32::MAX.into())));
        cgroup.remove().expect("it is empty");
    }
}

#[test]
fn no_process_survives_a_killed_worker() {
    for enforcer in enforcers("tree") {
        let mut limited = Limited::start(&enforcer, &Limits::default(), TREE);
        limited.go();
        let mut family: Vec<u32> = (0..3).map(|_| limited.read_line().parse().expect("a number")).collect();
        family.sort_unstable();
        assert!(family.contains(&limited.child.id()), "{family:?}");
        if enforcer.trees.is_empty() {
            // Without a cgroup, only the process group holds them together.
            assert!(limited.cgroup.pids().is_empty() && limited.cgroup.kill_all().is_empty());
            assert_eq!(super::kill::kill(|| family.clone()), family);
        } else {
            assert_eq!(limited.cgroup.pids(), family);
            assert!(limited.cgroup.remove().is_err(), "a group with members stays");
            assert_eq!(limited.cgroup.kill_all(), family);
        }
        assert!(super::kill::wait_until_gone(|| alive(&family), SOON), "{family:?}");
        // Their end of the pipe is closed when the last of them has exited, and not before.
        assert_eq!(limited.read_line(), "");
        assert_eq!(limited.child.wait().expect("waited for").signal(), Some(9));
        assert!(limited.cgroup.is_empty_within(SOON) && limited.cgroup.pids().is_empty());
        assert!(remove_within(&limited.cgroup, SOON));
    }
}

#[test]
fn sweep_kills_processes_of_earlier_runs_and_spares_kept_groups() {
    for enforcer in enforcers("sweep") {
        let mut left = Limited::start(&enforcer, &Limits::default(), HOG);
        let kept = enforcer.create(&"kept".parse().expect("a name"), 1, &Limits::default()).expect("a cgroup");
        assert!(enforcer.sweep(|_| true).is_empty());
        let killed = enforcer.sweep(|name| name == "kept.1");
        if enforcer.trees.is_empty() {
            assert!(killed.is_empty());
            assert!(left.child.try_wait().expect("polled").is_none(), "nothing shows where it is");
            continue;
        }
        assert_eq!(killed, [left.child.id()]);
        assert!(left.cgroup.is_empty_within(SOON));
        assert_eq!(left.child.wait().expect("waited for").signal(), Some(9));
        for tree in &enforcer.trees {
            let names: Vec<_> = tree.groups(&enforcer.folder).iter().map(|group| group.name().to_owned()).collect();
            assert!(names.contains(&"kept.1".to_owned()), "{names:?}");
        }
        kept.remove().expect("it is empty");
        assert!(remove_within(&left.cgroup, SOON));
        for tree in &enforcer.trees {
            assert!(!tree.base.join(&enforcer.folder).exists(), "the folder is removed with the last group");
        }
    }
}

#[test]
fn old_group_of_the_same_name_is_emptied() {
    for enforcer in enforcers("stale") {
        let mut left = Limited::start(&enforcer, &memory(64 * MIB), HOG);
        let cgroup = enforcer.create(&worker(), 7, &memory(128 * MIB)).expect("a cgroup of the same name");
        assert!(cgroup.pids().is_empty());
        assert_eq!(cgroup.oom_kills().unwrap_or(0), 0);
        if enforcer.trees.is_empty() {
            assert!(left.child.try_wait().expect("polled").is_none());
        } else {
            assert_eq!(left.child.wait().expect("waited for").signal(), Some(9));
        }
    }
}

#[test]
fn cgroup_of_an_earlier_run_is_found_again() {
    for enforcer in enforcers("reopen") {
        let limits = memory(64 * MIB);
        let mut hog = Limited::start(&enforcer, &limits, HOG);
        // As if the hive had been restarted in another group: below that one, the worker's cgroup does not exist.
        let mut elsewhere = enforcer.clone();
        for tree in &mut elsewhere.trees {
            tree.base = tree.base.join("elsewhere");
        }
        for enforcer in [&enforcer, &elsewhere] {
            let again = enforcer.reopen(&worker(), 7, &limits, hog.child.id());
            assert_eq!(again.in_force(), hog.cgroup.in_force());
            assert_eq!(again.pids(), hog.cgroup.pids());
        }
        let again = elsewhere.reopen(&worker(), 7, &limits, hog.child.id());
        let (output, status) = hog.finish();
        assert!(!status.success() && !output.contains("fits"));
        assert_eq!(again.oom_kills(), hog.cgroup.oom_kills());
        again.remove().expect("it is empty now");
    }
}

#[test]
fn exited_process_cannot_be_admitted() {
    for enforcer in enforcers("gone") {
        let mut child = Command::new("true").spawn().expect("started");
        let pid = child.id();
        child.wait().expect("waited for");
        let cgroup = enforcer.create(&worker(), 7, &memory(64 * MIB)).expect("a cgroup");
        assert!(cgroup.admit(pid).is_err());
        cgroup.remove().expect("it is empty");
    }
}
