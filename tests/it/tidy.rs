//! Rules about the code itself.

use std::{fs, path::Path};

use rbee_cli::{config::example, verb::schema::generated};
use rbee_tests::tools::repository;

fn rust_files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of this repository").flatten() {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn decisions_do_no_io_and_read_no_clock() {
    for role in ["queen", "hive", "worker"] {
        let mut files = Vec::new();
        rust_files(&repository().join(role).join("src/decide"), &mut files);
        assert!(!files.is_empty(), "{role} decides something");
        // What tests begin with may look at the clock.
        let is_of_tests = |file: &Path| file.ends_with("tests.rs") || file.ends_with("fixture.rs");
        for file in files.iter().filter(|file| !is_of_tests(file)) {
            let text = fs::read_to_string(file).expect("a file of this repository");
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for word in ["tokio", "async ", "std::fs", "std::net", "std::process", "Instant::now", "SystemTime::now"] {
                assert!(!code.contains(word), "{}: `{word}` has no place in a decision", file.display());
            }
        }
    }
}

#[test]
fn nothing_polls_for_readiness() {
    // Every timer of queen and hive stands here with what it is for; a new one must give its reason.
    let allowed = [
        ("queen/src/controller/mod.rs", "sleep_until"), // a decision's own deadline
        ("queen/src/controller/commands.rs", "sleep"),  // a pause before a command is sent again
        ("queen/src/leader.rs", "interval"),            // the renewal of the leader lease
        ("queen/src/leader.rs", "sleep_until"),         // the end of the leader lease
        ("queen/src/leader.rs", "timeout_at"),          // the same, while the server is asked
        ("queen/src/sealer.rs", "sleep_until"),         // a seal for many events
        ("queen/src/sealer.rs", "sleep"),               // a pause before the stream is tried again
        ("queen/src/gateway/chat.rs", "interval"),      // a silent stream says that it lives
        ("hive/src/supervisor/timing.rs", "sleep_until"), // the earliest deadline of a worker or of the hive
        ("hive/src/supervisor/timing.rs", "interval"),  // heartbeat, presence, lease renewal, own clock, health checks
        ("hive/src/supervisor/watches.rs", "sleep"),    // a pause after a failed receive of commands
        ("hive/src/supervisor/ports.rs", "sleep"),      // a pause before the release of a lease is retried
        ("hive/src/supervisor/shutdown.rs", "timeout_at"), // the last events
        ("hive/src/supervisor/shutdown.rs", "sleep_until"), // the deadlines of a shutdown
        ("hive/src/supervisor/liveness.rs", "timeout"), // the last heartbeat before an exit
        ("hive/src/probe.rs", "timeout"),               // a health check
        ("hive/src/store/fetch.rs", "sleep"),           // a pause before the hub is tried again
        ("hive/src/store/hub.rs", "timeout"),           // a silent connection
        ("hive/src/store/lock.rs", "timeout"),          // another process that holds a file and brings nothing
    ];
    for role in ["queen", "hive"] {
        let mut files = Vec::new();
        rust_files(&repository().join(role).join("src"), &mut files);
        for file in files {
            let name = file.strip_prefix(repository()).expect("a file of this repository").display().to_string();
            let text = fs::read_to_string(&file).expect("a file of this repository");
            for timer in ["sleep(", "sleep_until(", "interval(", "interval_at(", "timeout(", "timeout_at("] {
                let is_allowed = allowed.contains(&(name.as_str(), timer.trim_end_matches('(')));
                assert!(is_allowed || !text.contains(timer), "{name} has a timer `{timer}`: what is it for?");
            }
        }
    }
}

/// Every fixed time, by the kinds of docs/adr/0015-what-is-a-setting.md: a time that is in no declaration of settings must stand
/// here with the reason why nobody can set it.
const FIXED_TIMES: &[(&str, &str, &str)] = &[
    ("nats/src/bus.rs", "RECONNECT_STEP", "pace: connecting again"),
    ("nats/src/event.rs", "FIRST_PAUSE", "pace: publishing again"),
    ("nats/src/event.rs", "LONGEST_PAUSE", "pace: publishing again"),
    ("nats/src/recovery.rs", "PAUSE", "pace: opening a reader anew"),
    ("nats/src/recovery.rs", "LONGEST_PAUSE", "pace: the same, at last"),
    ("nats/src/command.rs", "PULL", "pace: a pull is renewed"),
    ("nats/src/command.rs", "PAUSE", "pace: commanding again"),
    ("nats/src/command.rs", "LATE", "backstop: the server ends a pull"),
    ("nats/src/output.rs", "PAUSE", "pace: a consumer that is not known yet"),
    ("nats/src/server.rs", "LOOK", "pace: a server of ours starts or ends, and nobody tells"),
    ("nats/src/command.rs", "ACK_WAIT", "backstop: commands are acknowledged at once"),
    ("nats/src/cell.rs", "MARKER_TIME_TO_LIVE", "backstop: the notice of a key that was given up"),
    ("nats/src/registry.rs", "MARKER_TIME_TO_LIVE", "backstop: the notice of a key that was removed"),
    ("nats/src/topology.rs", "MARKER", "backstop: the notice of a key that has expired"),
    ("nats/src/output.rs", "FORGOTTEN_AFTER", "backstop: a reader that is gone"),
    ("nats/src/server.rs", "VERSION", "backstop: a program that does not say its version"),
    ("nats/src/settings.rs", "SHORTEST_REDELIVERY", "derived: workers keep a job several times within it"),
    ("queen/src/sealer.rs", "RETRY_PAUSE", "pace: sealing again"),
    (
        "queen/src/controller/commands.rs",
        "RETRY_PAUSE",
        "pace: sending a command again that the server did not confirm",
    ),
    ("queen/src/controller/clock.rs", "STOOD_STILL", "own measure: its own clock"),
    ("queen/src/controller/planning.rs", "SHORT_PASS", "own measure: a planning pass that delays no input"),
    ("queen/src/controller/planning.rs", "LONGEST_PAUSE", "own measure: a pause that no job notices"),
    ("hive/src/decide/lateness.rs", "TICK", "own measure: its own clock"),
    ("hive/src/decide/lateness.rs", "MEMORY", "own measure: for how long lateness counts"),
    ("hive/src/decide/lateness.rs", "STOOD_STILL", "own measure: its own clock"),
    ("hive/src/decide/fetch.rs", "PACE", "pace: progress of a fetch"),
    ("hive/src/decide/worker/step.rs", "FIRST_KILL_PAUSE", "pace: killing what cannot be killed again"),
    ("hive/src/decide/worker/step.rs", "LONGEST_KILL_PAUSE", "pace: the same, at last"),
    ("hive/src/supervisor/watches.rs", "PAUSE", "pace: receiving commands again"),
    ("hive/src/store/lock.rs", "CHECK", "pace: progress of a fetch that waits for a lock"),
    ("hive/src/supervisor/ports.rs", "RELEASE_LIMIT", "backstop: a lease expires"),
    ("hive/src/supervisor/ports.rs", "RELEASE_PAUSE", "pace: releasing a lease again"),
    ("hive/src/supervisor/effects.rs", "REMOVAL_LIMIT", "kernel: killed processes are gone"),
    ("hive/src/limits/enforcer.rs", "GONE_WITHIN", "kernel: killed processes are gone"),
    ("hive/src/limits/group.rs", "CLEARED_WITHIN", "kernel: killed processes are gone"),
    ("worker/src/serve.rs", "PAUSE", "pace: pulling again"),
    ("worker/src/writer.rs", "FIRST_PAUSE", "pace: appending again"),
    ("worker/src/writer.rs", "LONGEST_PAUSE", "pace: appending again"),
    ("worker/src/run.rs", "PROGRESS", "pace: progress of a load"),
    ("worker/src/engine/mock/mod.rs", "FOR_EVER", "mock: a hang"),
    ("cli/src/follow.rs", "SILENCE", "default of --patience"),
    ("cli/src/order.rs", "SILENCE", "default of --patience"),
    ("cli/src/verb/down.rs", "SILENCE", "default of --patience"),
    ("cli/src/verb/cancel.rs", "PATIENCE", "default of --patience"),
    ("cli/src/verb/attach.rs", "PATIENCE", "default of --patience"),
    ("cli/src/verb/hive/work.rs", "JOIN_LIMIT", "default of --patience"),
    ("cli/src/verb/hive/script.rs", "STOP_PATIENCE", "default of --patience"),
    ("cli/src/verb/attach.rs", "HINT", "words: when a hint is given"),
    ("cli/src/verb/hive/plan.rs", "CLOCK_SKEW", "words: a note that hinders nothing"),
    ("cli/src/verb/down.rs", "LAST_WORD", "derived: what is told on two ways comes together"),
    ("cli/src/verb/down.rs", "LAST_LOOK", "derived: a connection is made again within it"),
    ("cli/src/verb/hive/script.rs", "SHORT", "derived: the way to another machine and back"),
    ("cli/src/verb/hive/script.rs", "COPY", "backstop: ssh finds a dead connection sooner"),
    ("cli/src/verb/hive/script.rs", "DELETION", "backstop: a disk that does not answer"),
    ("cli/src/keeper/mod.rs", "GRACE", "derived: longer than what the hive was told"),
    ("cli/src/keeper/decide.rs", "STABLE", "pace: as systemd by our unit"),
    ("cli/src/keeper/decide.rs", "FIRST", "pace: as systemd by our unit"),
    ("cli/src/keeper/decide.rs", "MOST", "pace: as systemd by our unit"),
    ("cli/src/telemetry.rs", "UPKEEP", "pace: metrics are summed up"),
    ("nats/src/trace/export.rs", "EVERY", "pace: spans are sent together"),
    ("nats/src/trace/export.rs", "ANSWER", "pace: spans are lost where a collector is slow, and nothing else"),
    ("nats/src/trace/export.rs", "LAST_SPANS", "pace: the same at the end of a process"),
];

/// What longer times are made of.
const UNITS: [&str; 4] = ["SECOND", "MINUTE", "HOUR", "DAY"];

/// The name of the time that a line declares, where it declares one.
fn fixed_time(line: &str) -> Option<&str> {
    let (_, declared) = line.split_once("const ")?;
    let (name, kind) = declared.split_once(':')?;
    kind.trim_start().trim_start_matches("std::time::").starts_with("Duration =").then_some(name)
}

/// Whether a line that declares none holds a time as a number.
fn holds_a_time(line: &str) -> bool {
    let made = line.split("Duration::from_").skip(1).filter_map(|rest| rest.split_once('('));
    let is_number =
        |text: &str| text.split(')').next().is_some_and(|text| text.starts_with(|c: char| c.is_ascii_digit()));
    fixed_time(line).is_none() && made.map(|(_, argument)| argument).any(is_number)
}

#[test]
fn every_fixed_time_has_a_reason() {
    let mut found = Vec::new();
    for role in ["nats", "queen", "hive", "worker", "cli"] {
        let mut files = Vec::new();
        rust_files(&repository().join(role).join("src"), &mut files);
        for file in files.iter().filter(|file| !file.ends_with("tests.rs") && !file.ends_with("fixture.rs")) {
            let name = file.strip_prefix(repository()).expect("a file of this repository").display().to_string();
            let text = fs::read_to_string(file).expect("a file of this repository");
            for line in text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().lines() {
                assert!(!holds_a_time(line), "{name} has a time in the middle of its code: `{}`; {WHERE}", line.trim());
                found.extend(
                    fixed_time(line).filter(|time| !UNITS.contains(time)).map(|time| (name.clone(), time.to_owned())),
                );
            }
        }
    }
    for (file, time) in &found {
        let is_listed = FIXED_TIMES.iter().any(|(listed, name, _)| listed == file && name == time);
        assert!(is_listed, "{file} has a fixed time {time}; {WHERE}");
    }
    for (file, time, _) in FIXED_TIMES {
        assert!(found.contains(&((*file).to_owned(), (*time).to_owned())), "{file} has no fixed time {time} any more");
    }
}

/// What to do about a new time.
const WHERE: &str = "docs/adr/0015-what-is-a-setting.md says whether it is a setting, and where it goes";

#[test]
fn a_time_is_found_however_it_is_written() {
    assert_eq!(fixed_time("pub(super) const WAIT: Duration = Duration::from_secs(1);"), Some("WAIT"));
    assert_eq!(fixed_time("const WAIT: std::time::Duration = Duration::from_secs(1);"), Some("WAIT"));
    assert_eq!(fixed_time("        suspect: Duration = 3 * SECOND,"), None);
    assert!(holds_a_time("    sleep(Duration::from_millis(50)).await;"));
    for fine in ["const WAIT: Duration = Duration::from_secs(1);", "Duration::from_millis(load_ms)", "3 * SECOND"] {
        assert!(!holds_a_time(fine), "{fine}");
    }
}

#[test]
fn every_operation_is_documented_with_its_line() {
    let text = fs::read_to_string(repository().join("docs/operations.md")).expect("a file of this repository");
    for operation in rbee_nats::OPERATIONS {
        assert!(text.contains(&format!("nats req rbee.api.{operation} ")), "docs/operations.md has no {operation}");
    }
}

#[test]
fn generated_files_are_fresh() {
    let folder = repository().join("schema/schemas");
    for (name, text) in generated() {
        let stored = fs::read_to_string(folder.join(&name)).unwrap_or_default();
        assert!(stored == text, "schema/schemas/{name} is stale: run `make generate`");
    }
    let files = fs::read_dir(&folder).expect("the folder is there").count();
    assert_eq!(files, generated().len(), "schema/schemas holds a file that nothing generates");
    let stored = fs::read_to_string(repository().join("docs/rbee.toml")).unwrap_or_default();
    assert!(stored == example(), "docs/rbee.toml is stale: run `make generate`");
}
