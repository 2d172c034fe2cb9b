//! Hives that are installed on another machine over SSH: a real sshd on this machine, with its own home folder.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use rbee_nats::Registry;
use rbee_schema::HiveRecord;
use rbee_tests::{
    fleet::{Fleet, Sshd, program, signal},
    port::Port,
    wait::{PATIENCE, eventually},
};
use serde_json::Value;

/// Limit for an error that comes at once. A connection attempt that times out takes 10 s.
const SOON: Duration = Duration::from_secs(20);

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Installs hive `one`; returns true if it joined just now, and its record.
async fn install(fleet: &Fleet, there: &Sshd, more: &[&str]) -> (bool, HiveRecord) {
    let ports = fleet.ports.range();
    // The systemd of this machine must not take part.
    let arguments = ["--name", "one", "--ports", &ports, "--without-systemd", "--json"];
    outcome(&there.hive(fleet, "install", &[&arguments, more].concat()).await)
}

async fn upgrade(fleet: &Fleet, there: &Sshd, programs: &Path) -> Output {
    there.hive(fleet, "upgrade", &["--programs", &programs.display().to_string(), "--json"]).await
}

fn outcome(output: &Output) -> (bool, HiveRecord) {
    assert!(output.status.success(), "{}", stderr(output));
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let record = serde_json::from_value(document["record"].clone()).expect("a record");
    (document["joined"].as_bool().expect("a field of the output"), record)
}

/// A folder with two programs: `hive` as rbee, with bytes appended that make it differ, and our worker.
fn programs(fleet: &Fleet, name: &str, hive: &Path) -> PathBuf {
    let folder = fleet.folder().join(name);
    fs::create_dir(&folder).expect("a folder");
    fs::copy(hive, folder.join("rbee")).expect("copied");
    fs::copy(program("rbee-worker"), folder.join("rbee-worker")).expect("copied");
    let mut rbee = fs::File::options().append(true).open(folder.join("rbee")).expect("opened");
    rbee.write_all(name.as_bytes()).expect("written");
    folder
}

/// Waits until exactly these processes of the fleet run. Commands over ssh take a moment to exit.
async fn alone(fleet: &Fleet, expected: &[u32]) {
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    let mut running = Vec::new();
    eventually(&format!("only {expected:?} run"), PATIENCE, async || {
        running = fleet.processes();
        running.sort_unstable();
        running == expected
    })
    .await;
}

async fn keys(fleet: &Fleet) -> usize {
    let hives = Registry::hives(&fleet.bus).all().await.expect("the server answers").len();
    let workers = Registry::workers(&fleet.bus).all().await.expect("the server answers").len();
    let ports = Registry::ports(&fleet.bus).all().await.expect("the server answers").len();
    hives + workers + ports
}

#[tokio::test]
async fn second_installation_restarts_a_hive_only_for_new_options() {
    let fleet = Fleet::bare().await;
    let there = fleet.sshd().await;
    let (joined, first) = install(&fleet, &there, &["--variable", "HF_TOKEN=secret"]).await;
    assert!(joined && first.epoch == 1, "{first:?}");
    let settings = there.home().join(".config/rbee/hive.env");
    let text = fs::read_to_string(&settings).expect("the options");
    assert!(text.contains("HF_TOKEN='secret'") && text.contains(fleet.server.url()), "{text}");
    assert_eq!(fs::metadata(&settings).expect("the options").permissions().mode() & 0o777, 0o600);

    let (joined, again) = install(&fleet, &there, &["--variable", "HF_TOKEN=secret"]).await;
    assert_eq!((joined, again.pid, again.epoch), (false, first.pid, 1));
    alone(&fleet, &[first.pid]).await;

    let (joined, other) = install(&fleet, &there, &["--labels", "zone=attic"]).await;
    assert!(joined && other.pid != first.pid && other.labels["zone"] == "attic", "{other:?}");
    alone(&fleet, &[other.pid]).await;

    let refused = there.hive(&fleet, "install", &["--name", "two", "--without-systemd"]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("rbee hive remove"), "{}", stderr(&refused));
}

#[tokio::test]
async fn upgrade_keeps_workers_and_is_rolled_back_when_it_does_not_join() {
    let fleet = Fleet::bare().await;
    let there = fleet.sshd().await;
    let (_, first) = install(&fleet, &there, &[]).await;
    fleet.spawn_mock("w", "m", "").await;
    let worker = fleet.ready_in("w", 1).await;

    let newer = programs(&fleet, "newer", &program("rbee"));
    let (joined, second) = outcome(&upgrade(&fleet, &there, &newer).await);
    assert!(joined && second.epoch > first.epoch && second.pid != first.pid, "{second:?}");
    assert_eq!(fleet.ready_in("w", 1).await.pid, worker.pid);
    let (joined, same) = outcome(&upgrade(&fleet, &there, &newer).await);
    assert_eq!((joined, same.pid), (false, second.pid));

    // This program starts, and is no hive.
    let no_hive = programs(&fleet, "no-hive", Path::new("/bin/true"));
    let failed = upgrade(&fleet, &there, &no_hive).await;
    assert_eq!(failed.status.code(), Some(1));
    let message = stderr(&failed);
    assert!(message.contains("exited before it joined") && message.contains("is running again"), "{message}");
    let back = Registry::hives(&fleet.bus).get("one").await.expect("the server answers").expect("it exists");
    assert!(back.epoch > second.epoch, "{back:?}");
    assert_eq!(fleet.ready_in("w", 1).await.pid, worker.pid);

    // This program fails to start, so the running hive is not touched.
    let broken = programs(&fleet, "broken", Path::new("/bin/false"));
    let failed = upgrade(&fleet, &there, &broken).await;
    assert!(stderr(&failed).contains("run the copied programs"), "{}", stderr(&failed));
    alone(&fleet, &[back.pid, worker.pid.expect("a worker has a process")]).await;
}

/// The files of an installed hive under systemd: its options, its unit, and the record of both.
fn written(there: &Sshd) -> [String; 3] {
    [".config/rbee/hive.env", ".config/systemd/user/rbee-hive.service", ".config/rbee/hive.installed"]
        .map(|file| fs::read_to_string(there.home().join(file)).expect("it was written"))
}

#[tokio::test]
async fn rollback_restores_options_and_unit_of_a_hive() {
    let fleet = Fleet::bare().await;
    let there = fleet.sshd().await;
    there.with_systemd();
    let ports = fleet.ports.range();
    let install = ["--name", "one", "--ports", &ports, "--json"];
    let (_, first) = outcome(&there.hive(&fleet, "install", &install).await);

    // As if an earlier version with another unit had installed it.
    let unit = there.home().join(".config/systemd/user/rbee-hive.service");
    let earlier = format!("# Of an earlier version.\n{}", fs::read_to_string(&unit).expect("a unit"));
    fs::write(&unit, &earlier).expect("written");
    let record = there.home().join(".config/rbee/hive.installed");
    let text = fs::read_to_string(&record).expect("a record");
    let (head, _) = text.split_once("unit_digest=").expect("the record names the unit");
    fs::write(&record, format!("{head}unit_digest='earlier'\n")).expect("written");
    let before = written(&there);
    assert_eq!(before[1], earlier);

    let no_hive = programs(&fleet, "no-hive", Path::new("/bin/true"));
    let failed = upgrade(&fleet, &there, &no_hive).await;
    let message = stderr(&failed);
    assert!(failed.status.code() == Some(1) && message.contains("is running again"), "{message}");
    assert_eq!(written(&there), before);
    let second = Registry::hives(&fleet.bus).get("one").await.expect("the server answers").expect("it exists");
    assert!(second.epoch > first.epoch, "{second:?}");

    // Options with which the hive does not start, and the same programs.
    let wrong = [&install[..], &["--variable", "RBEE_TIMERS=hush=1s"]].concat();
    let failed = there.hive(&fleet, "install", &wrong).await;
    let message = stderr(&failed);
    assert!(message.contains("known are first_word") && message.contains("is running again"), "{message}");
    assert_eq!(written(&there), before);
    let third = Registry::hives(&fleet.bus).get("one").await.expect("the server answers").expect("it exists");
    assert!(third.epoch > second.epoch, "{third:?}");
    alone(&fleet, &[third.pid]).await;

    let newer = programs(&fleet, "newer", &program("rbee"));
    let (joined, fourth) = outcome(&upgrade(&fleet, &there, &newer).await);
    assert!(joined && fourth.epoch > third.epoch, "{fourth:?}");
    assert!(!written(&there)[1].contains("Of an earlier version"), "the unit of this version");
    let removed = there.hive(&fleet, "remove", &["--purge"]).await;
    assert!(removed.status.success(), "{}", stderr(&removed));
    alone(&fleet, &[]).await;
}

#[tokio::test]
async fn removed_hive_leaves_nothing_and_can_be_removed_again() {
    let fleet = Fleet::bare().await;
    let there = fleet.sshd().await;
    install(&fleet, &there, &[]).await;
    fleet.spawn_mock("w", "m", "").await;
    fleet.ready_in("w", 1).await;
    let removed = there.hive(&fleet, "remove", &[]).await;
    assert!(removed.status.success(), "{}", stderr(&removed));
    alone(&fleet, &[]).await;
    assert_eq!(keys(&fleet).await, 0);
    let is_data = |file: &String| {
        [".local/share/rbee/hive-one/", ".local/share/rbee/logs/"].iter().any(|data| file.starts_with(data))
    };
    assert!(!there.files().is_empty() && there.files().iter().all(is_data), "{:?}", there.files());

    // The hive is killed. Removal still terminates its worker.
    let (_, record) = install(&fleet, &there, &[]).await;
    fleet.spawn_mock("w", "m", "").await;
    fleet.ready_in("w", 1).await;
    signal(record.pid, "KILL");
    let removed = there.hive(&fleet, "remove", &["--purge"]).await;
    assert!(removed.status.success(), "{}", stderr(&removed));
    alone(&fleet, &[]).await;
    assert_eq!((keys(&fleet).await, there.files()), (0, vec![]));

    let again = there.hive(&fleet, "remove", &[]).await;
    let output = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(again.status.success() && output.contains("nothing to remove"), "{output}{}", stderr(&again));
}

#[tokio::test]
async fn unreachable_machine_error_comes_at_once_with_a_remedy() {
    let fleet = Fleet::bare().await;
    let there = fleet.sshd().await;
    let unused = Port::take();
    let target = there.target();
    for (target, ssh, code, words) in [
        (target.as_str(), there.ssh_to(&unused), 1, "Connection refused; check that sshd runs there"),
        (&target, there.ssh_with_unknown_key(), 1, "ssh-copy-id"),
        ("no-such-host.invalid", there.ssh(), 1, "check the host name"),
        (&target, "/nowhere/ssh".to_owned(), 1, "install an SSH client"),
        (&target, "ssh 'open".to_owned(), 2, "is not a command"),
        ("-oProxyCommand=x", there.ssh(), 2, "USER@HOST"),
    ] {
        for verb in ["install", "remove"] {
            let begun = Instant::now();
            let output = fleet.rbee(&["hive", verb, "--ssh", &ssh, "--", target]).await;
            assert_eq!(output.status.code(), Some(code), "{verb} {target}: {}", stderr(&output));
            assert!(stderr(&output).contains(words), "{verb} {target}: {}", stderr(&output));
            assert!(begun.elapsed() < SOON, "{verb} {target}: {:?}", begun.elapsed());
        }
    }
    assert_eq!(there.files(), Vec::<String>::new());
}

#[tokio::test]
async fn hive_that_cannot_join_is_not_left_behind() {
    let fleet = Fleet::bare().await;
    let there = fleet.sshd().await;
    let unreachable = format!("nats://127.0.0.1:{}", Port::take().number());
    for (arguments, words) in [
        (["--hive-nats", unreachable.as_str()], "cannot reach the bus"),
        (["--variable", "RBEE_TIMERS=hush=1s"], "known are first_word"),
        (["--prefix", "a b"], "cannot be used"),
    ] {
        let failed = there.hive(&fleet, "install", &[&arguments[..], &["--without-systemd"]].concat()).await;
        assert_eq!(failed.status.code(), Some(1), "{}", stderr(&failed));
        assert!(stderr(&failed).contains(words), "{}", stderr(&failed));
        alone(&fleet, &[]).await;
        assert_eq!(there.files(), Vec::<String>::new(), "{arguments:?}");
    }
    for verb in ["upgrade", "logs"] {
        let failed = there.hive(&fleet, verb, &[]).await;
        assert!(stderr(&failed).contains("no hive is installed"), "{}", stderr(&failed));
    }
}

#[tokio::test]
async fn hive_log_is_printed_and_followed_until_interrupted() {
    let fleet = Fleet::bare().await;
    let there = fleet.sshd().await;
    let (_, record) = install(&fleet, &there, &[]).await;
    let log = there.hive(&fleet, "logs", &["-n", "50"]).await;
    let text = String::from_utf8_lossy(&log.stdout).into_owned();
    assert!(log.status.success() && text.contains("the hive takes commands"), "{text}{}", stderr(&log));
    let last = there.hive(&fleet, "logs", &["-n", "1"]).await;
    assert_eq!(String::from_utf8_lossy(&last.stdout).lines().count(), 1);

    let mut command = fleet.command();
    command.args(["hive", "logs", &there.target(), "--ssh", &there.ssh(), "--follow", "-n", "1"]);
    let mut follow = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("rbee starts");
    let mut lines = BufReader::new(follow.stdout.take().expect("a pipe")).lines();
    lines.next().expect("a line").expect("text");
    fleet.spawn_mock("w", "m", "").await;
    fleet.ready_in("w", 1).await;
    let line = tokio::task::spawn_blocking(move || lines.map_while(Result::ok).find(|line| line.contains('w')));
    let line = rbee_tests::wait::soon("line", line).await.expect("no panic");
    assert!(line.is_some(), "the log continues");
    signal(follow.id(), "INT");
    follow.wait().expect("it ends");
    let worker = fleet.record("w").await.and_then(|record| record.pid).expect("a worker has a process");
    alone(&fleet, &[record.pid, worker]).await;
}
