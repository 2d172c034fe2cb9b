//! Effect of the configuration file on real processes, and what overrides it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use rbee_tests::{
    fleet::{Fleet, program, without_configuration},
    wait::soon,
};
use serde_json::{Value, json};

fn written(folder: &Path, text: &str) -> PathBuf {
    let file = folder.join("rbee.toml");
    fs::write(&file, text).expect("a file can be written");
    file
}

/// `rbee` without a fleet.
fn rbee(file: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program("rbee"));
    without_configuration(&mut command).arg("--config").arg(file).args(arguments).env_remove("RBEE_NATS");
    command
}

fn output(mut command: Command) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = command.output().expect("rbee runs");
    (status.code(), String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr))
}

/// Value and origin of a key in `rbee config show --json`.
fn shown(mut command: Command, section: &str, key: &str) -> (Value, Value) {
    let output = command.output().expect("rbee runs");
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let values = document["values"].as_array().expect("a list");
    let found =
        values.iter().find(|found| found["section"] == section && found["key"] == key).expect("the key is shown");
    (found["value"].clone(), found["from"].clone())
}

#[tokio::test]
async fn a_hive_joins_with_the_configuration_of_its_file_alone() {
    let mut fleet = Fleet::bare().await;
    let text = format!(
        "nats = '{}'\n[hive]\nname = 'plain'\nports = '{}'\ndata = '{}'\nmetrics = '127.0.0.1:0'\n\
         [env.attic.hive]\nname = 'attic'\nlabels = {{ zone = 'attic' }}\n[env.attic.hive.timers]\nbeat = '50ms'\n",
        fleet.server.url(),
        fleet.ports.range(),
        fleet.folder().join("attic").display()
    );
    let file = written(fleet.folder(), &text);
    let mut command = fleet.command();
    command.env_remove("RBEE_NATS").env_remove("RBEE_CONFIG");
    command.args(["hive", "--env", "attic", "--config"]).arg(&file);
    let pid = fleet.launch("attic", command);
    let hive = fleet.joined("attic", pid).await;
    let labels: Vec<(&str, &str)> = hive.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(labels, [("zone", "attic")]);
    let mut beats = fleet.bus.subscribe("rbee.beat.attic".to_owned()).await.expect("the server answers");
    let start = Instant::now();
    for _ in 0..12 {
        soon("heartbeat", beats.next()).await.expect("the connection stands");
    }
    assert!(start.elapsed() < Duration::from_secs(8), "by default twelve take eleven seconds: {:?}", start.elapsed());
}

#[test]
fn flag_overrides_variable_and_variable_overrides_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file =
        written(folder.path(), "nats = 'nats://me:word@file'\n[hive]\nports = '1-2'\n[hive.timers]\ndrain = '5m'\n");
    let show = |flags: &[&str]| rbee(&file, &[&["config", "show", "--json"], flags].concat());
    assert_eq!(shown(show(&["--role", "queen"]), "", "nats").0, "nats://***@file");
    let (value, from) = shown(show(&[]), "hive", "ports");
    assert_eq!((value, &from["line"]), ("1-2".into(), &3.into()));
    let with_variable = |flags: &[&str]| {
        let mut command = show(flags);
        command.env("RBEE_PORTS", "3-4");
        command
    };
    assert_eq!(shown(with_variable(&[]), "hive", "ports"), ("3-4".into(), json!({ "variable": "RBEE_PORTS" })));
    let flags = ["--nats", "nats://flag", "--", "--ports", "5-6"];
    assert_eq!(shown(with_variable(&flags), "hive", "ports"), ("5-6".into(), json!({ "flag": "ports" })));
    assert_eq!(shown(with_variable(&flags), "", "nats"), ("nats://flag".into(), json!({ "flag": "nats" })));
    let mut timers = show(&[]);
    timers.env("RBEE_TIMERS", "hang=2m");
    let (value, from) = shown(timers, "hive.timers", "drain");
    assert_eq!((value, &from["line"]), ("5m".into(), &5.into()), "a variable changes only the settings that it names");
}

#[test]
fn an_invalid_file_stops_every_verb_but_help() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = written(folder.path(), "[hive]\nmax-worker = 3\n[env.lab.hive]\nports = '0-0'\n[apply]\nprune = true\n");
    for arguments in [&["hive"][..], &["queen"], &["up"], &["ps"], &["config", "check"], &["config", "show"]] {
        let (code, text) = output(rbee(&file, arguments));
        assert_eq!(code, Some(2), "{arguments:?}: {text}");
        for part in [
            "rbee.toml:2:1: [hive] max-worker: unknown key; did you mean max-workers?",
            ":4:9: [env.lab.hive] ports: ",
            "`rbee apply` takes its options as flags",
        ] {
            assert!(text.contains(part), "{arguments:?}: {text}");
        }
    }
    for arguments in [&["--help"][..], &["hive", "--help"], &["--version"], &["config", "example"]] {
        let (code, text) = output(rbee(&file, arguments));
        assert_eq!(code, Some(0), "{arguments:?}: {text}");
    }
}

#[test]
fn a_missing_file_or_environment_is_reported_with_what_exists() {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, text) = output(rbee(&folder.path().join("no.toml"), &["hive"]));
    assert_eq!((code, text.contains("no.toml does not exist")), (Some(2), true), "{text}");
    let file = written(folder.path(), "[env.home]\n[env.lab]\n");
    let (code, text) = output(rbee(&file, &["hive", "--env", "labs"]));
    assert_eq!((code, text.contains("known are home, lab")), (Some(2), true), "{text}");
    let (code, text) = output(rbee(&file, &["config", "check"]));
    assert_eq!((code, text.contains("is valid, with environments home, lab")), (Some(0), true), "{text}");
}

#[test]
fn configuration_file_of_the_user_is_optional() {
    let folder = tempfile::tempdir().expect("a folder");
    let check = || {
        let mut command = Command::new(program("rbee"));
        command.env_remove("RBEE_CONFIG").env_remove("RBEE_ENV").env("XDG_CONFIG_HOME", folder.path());
        command.args(["config", "check"]);
        output(command)
    };
    let (code, text) = check();
    assert_eq!((code, text.contains("no configuration file")), (Some(0), true), "{text}");
    fs::create_dir(folder.path().join("rbee")).expect("a folder can be made");
    let file = written(&folder.path().join("rbee"), "[hive]\n");
    assert_eq!(check(), (Some(0), format!("{} is valid\n", file.display())));
}
