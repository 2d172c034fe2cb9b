//! The configuration file, and the precedence of variables and flags over it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use rbee_tests::fleet::{Fleet, program, without_configuration};
use serde_json::{Value, json};

fn written(folder: &Path, text: &str) -> PathBuf {
    let file = folder.join("rbee.toml");
    fs::write(&file, text).expect("a file can be written");
    file
}

/// An `rbee` command without a fleet.
fn rbee(file: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program("rbee"));
    without_configuration(&mut command).arg("--config").arg(file).args(arguments).env_remove("RBEE_NATS");
    command
}

fn run(mut command: Command) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = command.output().expect("rbee runs");
    (status.code(), String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr))
}

/// The value of an option in `rbee config show`, and its source.
fn shown(mut command: Command, option: &str) -> (Value, Value) {
    let output = command.output().expect("rbee runs");
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let options = document["options"].as_array().expect("a list").clone();
    let found = options.iter().find(|found| found["option"] == option).expect("the option exists");
    (found["value"].clone(), found["from"].clone())
}

#[tokio::test]
async fn hive_takes_its_settings_from_its_configuration_file() {
    let mut fleet = Fleet::bare().await;
    let text = format!(
        "nats = '{}'\n[hive]\nname = 'plain'\nports = '{}'\ndata = '{}'\nmetrics = '127.0.0.1:0'\n\
         [env.attic.hive]\nname = 'attic'\nlabels = {{ zone = 'attic' }}\ntimers = {{ silent = '20s' }}\n",
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
}

#[test]
fn flag_overrides_variable_and_variable_overrides_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = written(folder.path(), "nats = 'nats://me:word@file'\n[hive]\nports = '1-2'\n");
    let show = |flags: &[&str]| rbee(&file, &[&["config", "show", "--json"], flags].concat());
    assert_eq!(shown(show(&["--role", "queen"]), "nats").0, "nats://***@file");
    let (value, from) = shown(show(&[]), "ports");
    assert_eq!((value, &from["line"]), ("1-2".into(), &3.into()));
    let with_variable = |flags: &[&str]| {
        let mut command = show(flags);
        command.env("RBEE_PORTS", "3-4");
        command
    };
    assert_eq!(shown(with_variable(&[]), "ports"), ("3-4".into(), json!({ "variable": "RBEE_PORTS" })));
    let flags = ["--nats", "nats://flag", "--", "--ports", "5-6"];
    assert_eq!(shown(with_variable(&flags), "ports"), ("5-6".into(), json!({ "flag": "ports" })));
    assert_eq!(shown(with_variable(&flags), "nats"), ("nats://flag".into(), json!({ "flag": "nats" })));
}

#[test]
fn invalid_configuration_stops_every_verb_but_help() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = written(folder.path(), "[hive]\nmax-worker = 3\n[env.lab.hive]\nports = '0-0'\n");
    for arguments in [&["hive"][..], &["queen"], &["up"], &["ps"], &["config", "check"], &["config", "show"]] {
        let (code, output) = run(rbee(&file, arguments));
        assert_eq!(code, Some(2), "{arguments:?}: {output}");
        for words in ["rbee.toml:2:1: [hive] max-worker: no such option; did you mean max-workers?", ":4:9: [env.lab"] {
            assert!(output.contains(words), "{arguments:?}: {output}");
        }
    }
    for arguments in [&["--help"][..], &["hive", "--help"], &["--version"], &["config", "example"]] {
        let (code, output) = run(rbee(&file, arguments));
        assert_eq!(code, Some(0), "{arguments:?}: {output}");
    }
}

#[test]
fn missing_file_or_environment_error_lists_what_exists() {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, output) = run(rbee(&folder.path().join("no.toml"), &["hive"]));
    assert_eq!((code, output.contains("no.toml is not there")), (Some(2), true), "{output}");
    let file = written(folder.path(), "[env.home]\n[env.lab]\n");
    let (code, output) = run(rbee(&file, &["hive", "--env", "labs"]));
    assert_eq!((code, output.contains("there are home, lab")), (Some(2), true), "{output}");
    let (code, output) = run(rbee(&file, &["config", "check"]));
    assert_eq!((code, output.contains("is right, with environments home, lab")), (Some(0), true), "{output}");
}

#[test]
fn configuration_file_of_the_user_is_optional() {
    let folder = tempfile::tempdir().expect("a folder");
    let check = || {
        let mut command = Command::new(program("rbee"));
        command.env_remove("RBEE_CONFIG").env_remove("RBEE_ENV").env("XDG_CONFIG_HOME", folder.path());
        command.args(["config", "check"]);
        run(command)
    };
    let (code, output) = check();
    assert_eq!((code, output.contains("there is no configuration file")), (Some(0), true), "{output}");
    fs::create_dir(folder.path().join("rbee")).expect("a folder can be made");
    let file = written(&folder.path().join("rbee"), "[hive]\n");
    assert_eq!(check(), (Some(0), format!("{} is right\n", file.display())));
}
