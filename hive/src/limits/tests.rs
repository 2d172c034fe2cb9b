//! With real groups of this machine: each rule is tried with whatever can be had here, and with less than that.

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

/// What is dead is gone from its group within this; a test that waits longer fails.
const SOON: Duration = Duration::from_secs(20);

/// Takes 512 MiB and touches them once it is told to.
const HOG: &str = "import os, sys\n\
    os.write(1, b'up\\n')\n\
    sys.stdin.readline()\n\
    kept = bytearray(512 << 20)\n\
    os.write(1, b'fits')";

/// Becomes three processes once it is told to, each in a session of its own. Each says its number and waits for ever.
const TREE: &str = "import os, signal, sys\n\
    os.write(1, b'up\\n')\n\
    sys.stdin.readline()\n\
    for _ in range(2):\n    if os.fork():\n        break\n    os.setsid()\n\
    os.write(1, b'%d\\n' % os.getpid())\n\
    while True:\n    signal.pause()";

/// What the machine allows, and each smaller choice that it allows too.
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

/// A process that is killed with its test, and a cage that goes with it.
struct Caged {
    cage: WorkerCgroup,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Caged {
    fn start(enforcer: &Enforcer, limits: &Limits, program: &str) -> Self {
        let cage = enforcer.create(&worker(), 7, limits).expect("a cage");
        let mut command = Command::new("python3");
        command.args(["-c", program]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("python3 is there");
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().expect("piped")));
        let mut caged = Self { cage, child, input, output };
        caged.cage.admit(caged.child.id()).expect("admitted");
        assert_eq!(caged.hear(), "up");
        caged
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("read");
        line.trim_end().to_owned()
    }

    fn tell(&mut self) {
        self.input.take().expect("once").write_all(b"go\n").expect("told");
    }

    /// Tells it to go on; what it says then, and how it ended.
    fn go_on(&mut self) -> (String, ExitStatus) {
        self.tell();
        let mut said = String::new();
        self.output.read_to_string(&mut said).expect("read");
        (said, self.child.wait().expect("waited for"))
    }
}

impl Drop for Caged {
    fn drop(&mut self) {
        self.cage.kill_all();
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.cage.is_empty_within(SOON);
        remove_within(&self.cage, SOON);
    }
}

/// Those that still run: of whoever has ended, `/proc` has no memory to tell of.
fn alive(pids: &[u32]) -> Vec<u32> {
    let runs = |pid: &u32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|command| !command.is_empty());
    pids.iter().copied().filter(runs).collect()
}

/// Who was killed is out of the list a moment before it is out of the group.
fn remove_within(cage: &WorkerCgroup, time: Duration) -> bool {
    let deadline = Instant::now() + time;
    while cage.remove().is_err() {
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
fn a_worker_that_takes_more_than_its_memory_is_ended_and_it_is_known_why() {
    for enforcer in enforcers("hog") {
        let mut hog = Caged::start(&enforcer, &memory(64 * MIB), HOG);
        let in_force = hog.cage.in_force().expect("memory is limited");
        assert_eq!((in_force.method, in_force.limits), (enforcer.by(), memory(64 * MIB)));
        let (said, status) = hog.go_on();
        assert!(!said.contains("fits"), "{:?}: the memory was had", enforcer.by());
        match enforcer.by() {
            LimitMethod::CgroupV2 | LimitMethod::CgroupV1 => {
                assert_eq!(status.signal(), Some(9), "{:?}", enforcer.by());
                assert_eq!(hog.cage.oom_kills(), Some(1), "{:?}", enforcer.by());
            }
            LimitMethod::RlimitData => {
                // Python says MemoryError where Rust aborts.
                assert_eq!(status.code(), Some(1));
                assert_eq!(hog.cage.oom_kills(), None);
            }
        }
    }
}

#[test]
fn a_worker_within_its_memory_is_left_alone() {
    for enforcer in enforcers("modest") {
        let mut modest = Caged::start(&enforcer, &memory(1024 * MIB), HOG);
        let (said, status) = modest.go_on();
        assert!(status.success() && said.contains("fits"), "{:?}: {status}", enforcer.by());
        assert_eq!(modest.cage.oom_kills().unwrap_or(0), 0);
    }
}

#[test]
fn the_other_limits_are_in_force_where_they_can_be() {
    for enforcer in enforcers("others") {
        let limits = Limits { memory: None, cpu_millis: Some(1500), open_files: Some(100) };
        let caged = Caged::start(&enforcer, &limits, TREE);
        let of_process = fs::read_to_string(format!("/proc/{}/limits", caged.child.id())).expect("it runs");
        let files = of_process.lines().find(|line| line.starts_with("Max open files")).expect("listed");
        assert_eq!(files.split_whitespace().collect::<Vec<_>>()[3..5], ["100", "100"]);
        let in_force = caged.cage.in_force().expect("open files are limited").limits;
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
fn what_is_not_limited_is_not_said_to_be() {
    for enforcer in enforcers("free") {
        let cage = enforcer.create(&worker(), 1, &Limits::default()).expect("a cage");
        assert_eq!(cage.in_force(), None);
        cage.remove().expect("nobody was in it");
        cage.remove().expect("once more does no harm");
        let most = super::rlimit::most_open_files();
        let limits = Limits { open_files: Some(u32::MAX), ..Limits::default() };
        let cage = enforcer.create(&worker(), 1, &limits).expect("a cage");
        let files = cage.in_force().and_then(|in_force| in_force.limits.open_files);
        assert_eq!(files.map(u64::from), Some(most.min(u32::MAX.into())));
        cage.remove().expect("nobody was in it");
    }
}

#[test]
fn nobody_survives_a_killed_worker_however_far_it_went() {
    for enforcer in enforcers("tree") {
        let mut caged = Caged::start(&enforcer, &Limits::default(), TREE);
        caged.tell();
        let mut family: Vec<u32> = (0..3).map(|_| caged.hear().parse().expect("a number")).collect();
        family.sort_unstable();
        assert!(family.contains(&caged.child.id()), "{family:?}");
        if enforcer.trees.is_empty() {
            // Nobody holds them together: the hive has its process group and no more.
            assert!(caged.cage.pids().is_empty() && caged.cage.kill_all().is_empty());
            assert_eq!(super::kill::kill(|| family.clone()), family);
        } else {
            assert_eq!(caged.cage.pids(), family);
            assert!(caged.cage.remove().is_err(), "a group with somebody in it stays");
            assert_eq!(caged.cage.kill_all(), family);
        }
        assert!(super::kill::wait_until_gone(|| alive(&family), SOON), "{family:?}");
        // Their end of the pipe is closed when the last of them is gone, and not before.
        assert_eq!(caged.hear(), "");
        assert_eq!(caged.child.wait().expect("waited for").signal(), Some(9));
        assert!(caged.cage.is_empty_within(SOON) && caged.cage.pids().is_empty());
        assert!(remove_within(&caged.cage, SOON));
    }
}

#[test]
fn leftovers_of_an_earlier_run_are_ended_and_whoever_is_kept_stays() {
    for enforcer in enforcers("sweep") {
        let mut left = Caged::start(&enforcer, &Limits::default(), HOG);
        let kept = enforcer.create(&"kept".parse().expect("a name"), 1, &Limits::default()).expect("a cage");
        assert!(enforcer.sweep(|_| true).is_empty());
        let killed = enforcer.sweep(|name| name == "kept.1");
        if enforcer.trees.is_empty() {
            assert!(killed.is_empty());
            assert!(left.child.try_wait().expect("asked").is_none(), "nobody told where it is");
            continue;
        }
        assert_eq!(killed, [left.child.id()]);
        assert!(left.cage.is_empty_within(SOON));
        assert_eq!(left.child.wait().expect("waited for").signal(), Some(9));
        for tree in &enforcer.trees {
            let names: Vec<_> = tree.groups(&enforcer.folder).iter().map(|group| group.name().to_owned()).collect();
            assert!(names.contains(&"kept.1".to_owned()), "{names:?}");
        }
        kept.remove().expect("nobody is in it");
        assert!(remove_within(&left.cage, SOON));
        for tree in &enforcer.trees {
            assert!(!tree.base.join(&enforcer.folder).exists(), "the folder goes with the last group");
        }
    }
}

#[test]
fn a_group_that_is_in_the_way_is_emptied() {
    for enforcer in enforcers("stale") {
        let mut left = Caged::start(&enforcer, &memory(64 * MIB), HOG);
        let cage = enforcer.create(&worker(), 7, &memory(128 * MIB)).expect("a cage of the same name");
        assert!(cage.pids().is_empty());
        assert_eq!(cage.oom_kills().unwrap_or(0), 0);
        if enforcer.trees.is_empty() {
            assert!(left.child.try_wait().expect("asked").is_none());
        } else {
            assert_eq!(left.child.wait().expect("waited for").signal(), Some(9));
        }
    }
}

#[test]
fn the_cage_of_an_earlier_run_is_found_again() {
    for enforcer in enforcers("reopen") {
        let limits = memory(64 * MIB);
        let mut hog = Caged::start(&enforcer, &limits, HOG);
        // As if the hive had been started again from another place: where it makes groups now, there is none.
        let mut elsewhere = enforcer.clone();
        for tree in &mut elsewhere.trees {
            tree.base = tree.base.join("elsewhere");
        }
        for enforcer in [&enforcer, &elsewhere] {
            let again = enforcer.reopen(&worker(), 7, &limits, hog.child.id());
            assert_eq!(again.in_force(), hog.cage.in_force());
            assert_eq!(again.pids(), hog.cage.pids());
        }
        let again = elsewhere.reopen(&worker(), 7, &limits, hog.child.id());
        let (said, status) = hog.go_on();
        assert!(!status.success() && !said.contains("fits"));
        assert_eq!(again.oom_kills(), hog.cage.oom_kills());
        again.remove().expect("nobody is in it any more");
    }
}

#[test]
fn a_process_that_is_gone_cannot_be_admitted() {
    for enforcer in enforcers("gone") {
        let mut child = Command::new("true").spawn().expect("started");
        let pid = child.id();
        child.wait().expect("waited for");
        let cage = enforcer.create(&worker(), 7, &memory(64 * MIB)).expect("a cage");
        assert!(cage.admit(pid).is_err());
        cage.remove().expect("nobody is in it");
    }
}
