//! Tables of files and the values or mistakes in them, against the real command line.

use std::path::Path;

use super::{
    EffectiveValue, Origin, effective,
    example::{assignment, documented, full_example, write},
    keys::{argument, keys},
    mistake::{Mistake, Problem, report},
    read,
    values::Defaults,
};
use crate::command_line::command;

fn defaults(text: &str, environment: Option<&str>) -> Defaults {
    let values = read(text, &command()).unwrap_or_else(|wrong| panic!("{}", report(Path::new("rbee.toml"), &wrong)));
    values.choose(environment).expect("the environment exists")
}

fn values(defaults: &Defaults, arguments: &[&str]) -> Vec<EffectiveValue> {
    let arguments = std::iter::once("rbee").chain(arguments.iter().copied()).map(Into::into).collect();
    effective(&command(), arguments, defaults, Some(Path::new("rbee.toml"))).expect("the arguments are valid")
}

/// Checks values of keys, written as `section.key` or `key`.
#[track_caller]
fn check(text: &str, environment: Option<&str>, arguments: &[&str], expected: &[(&str, Option<&str>, Origin)]) {
    let values = values(&defaults(text, environment), arguments);
    for (key, value, origin) in expected {
        let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
        let found = values.iter().find(|found| found.section == section && found.key == name);
        let found = found.unwrap_or_else(|| panic!("{key} of {arguments:?} is not shown"));
        assert_eq!((found.value.as_deref(), &found.origin), (*value, origin), "{key} of {arguments:?}");
    }
}

fn line(number: usize) -> Origin {
    Origin::File("rbee.toml".into(), number)
}

fn flag(name: &str) -> Origin {
    Origin::Flag(name.to_owned())
}

fn mistakes(text: &str) -> Vec<Mistake> {
    read(text, &command()).expect_err("the file is invalid")
}

#[test]
fn every_type_of_value_becomes_the_default_of_its_option() {
    for (text, key, value) in [
        ("nats = 'nats://one'", "nats", "nats://one"),
        ("nats = ['nats://one', 'nats://two']", "nats", "nats://one,nats://two"),
        ("patience = '5m'", "patience", "5m"),
        ("hive.ports = '1-2'", "hive.ports", "1-2"),
        ("[hive]\nmax-workers = 0x1_0", "hive.max-workers", "16"),
        ("[hive]\nmax-workers = '3'", "hive.max-workers", "3"),
        ("[hive]\nlabels = { a = 'b', c = 4 }", "hive.labels", "a=b,c=4"),
        ("[hive.labels]\na = 'b'", "hive.labels", "a=b"),
        ("[hive.timers]\ndrain = '5m'", "hive.timers.drain", "5m"),
        ("hive.timers = { load-stall = '20s' }", "hive.timers.load-stall", "20s"),
        ("[hive.limits]\nlog-size = '1MiB'", "hive.limits.log-size", "1MiB"),
        ("[hive.limits]\nloop-exits = 3", "hive.limits.loop-exits", "3"),
        ("[worker]\nmemory = '8GiB'", "worker.memory", "8GiB"),
        ("[worker]\nanswer-tokens = 99", "worker.answer-tokens", "99"),
        ("[worker]\ndevices = ['cpu', 'cuda']", "worker.devices", "cpu,cuda"),
        ("[connection]\nping = '5s'", "connection.ping", "5s"),
    ] {
        let all = values(&defaults(text, None), &["hive"]);
        let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
        let found = all.iter().find(|found| found.section == section && found.key == name);
        let found = found.unwrap_or_else(|| panic!("{text}"));
        assert_eq!(found.value.as_deref(), Some(value), "{text}");
        assert!(matches!(found.origin, Origin::File(..)), "{text}: {}", found.origin);
    }
    check("[queen]\nhive = true", None, &["queen"], &[("queen.hive", Some("true"), line(2))]);
    check("[queen]\nhive = false", None, &["queen"], &[("queen.hive", Some("false"), line(2))]);
}

#[test]
fn a_flag_overrides_the_file_and_the_file_the_default() {
    let text = "nats = 'nats://file'\n[hive]\nports = '1-2'\n[worker]\ndevices = ['cuda', 'metal']";
    check(
        text,
        None,
        &["hive", "--ports", "3-4"],
        &[
            ("nats", Some("nats://file"), line(1)),
            ("hive.ports", Some("3-4"), flag("ports")),
            ("worker.devices", Some("cuda,metal"), line(5)),
            ("hive.name", None, Origin::Default),
        ],
    );
    let devices = ("worker.devices", Some("cpu"), flag("worker-devices"));
    check(text, None, &["hive", "--worker-devices=cpu"], &[devices]);
    check(text, None, &["hive", "--nats=n"], &[("nats", Some("n"), flag("nats"))]);
    check("", None, &["queen", "--hive"], &[("queen.hive", Some("true"), flag("hive"))]);
    check("", None, &["hive"], &[("hive.ports", Some("8080-9999"), Origin::Default)]);
    check("", None, &["hive"], &[("hive.timers.drain", Some("30s"), Origin::Default)]);
}

#[test]
fn a_flag_with_settings_changes_only_those_it_names() {
    let text = "[hive.timers]\ndrain = '5m'\nhang = '1m'";
    check(
        text,
        None,
        &["hive", "--timers", "hang=2m,probe=3s"],
        &[
            ("hive.timers.drain", Some("5m"), line(2)),
            ("hive.timers.hang", Some("2m"), flag("timers")),
            ("hive.timers.probe", Some("3s"), flag("timers")),
            ("hive.timers.shutdown", Some("30s"), Origin::Default),
        ],
    );
    // What `config show` prints is what the role gets.
    let matches = defaults(text, None).apply(command());
    let matches = matches.try_get_matches_from(["rbee", "hive", "--timers", "hang=2m,probe=3s"]).expect("valid");
    let (_, hive) = matches.subcommand().expect("a verb");
    let timers = hive.get_one::<rbee_hive::decide::timers::Timers>("timers").expect("timers");
    assert_eq!(timers.to_string(), "hang=2m,drain=5m,probe=3s");
}

#[test]
fn each_role_takes_the_sections_that_concern_it() {
    let text = "[hive]\nports = '1-2'\n[gateway]\nlisten = '0.0.0.0:80'\npatience = '1m'\n[bus]\nport = 4223\nqueued = 9\n\
                [queen.timers]\nlost = '20s'";
    let of_queen = [
        ("gateway.listen", Some("0.0.0.0:80"), line(4)),
        ("gateway.patience", Some("1m"), line(5)),
        ("bus.queued", Some("9"), line(8)),
        ("queen.timers.lost", Some("20s"), line(10)),
    ];
    let (ports, bus_port) = (("hive.ports", Some("1-2"), line(2)), ("bus.port", Some("4223"), line(7)));
    check(text, None, &["queen"], &of_queen);
    check(text, None, &["hive"], std::slice::from_ref(&ports));
    check(text, None, &["up"], &[&of_queen[..], &[ports, bus_port]].concat());
    let hive = values(&defaults(text, None), &["hive"]);
    assert!(hive.iter().all(|value| value.section != "gateway" && value.section != "bus"), "{hive:?}");
}

#[test]
fn the_file_gives_no_defaults_to_verbs_of_clients() {
    // Their options of the same names, such as `--labels` of `serve`, mean something else.
    let text = "[hive]\nname = 'h'\nlabels = { zone = 'attic' }\n[queen]\nhive = true\n[worker]\nmemory = '1GiB'\n";
    let command = defaults(text, None).apply(command());
    for arguments in [&["rbee", "serve", "m", "mock:"][..], &["rbee", "pull", "hf:o/r/m.gguf"], &["rbee", "ps"]] {
        let matches = command.clone().try_get_matches_from(arguments).expect("valid");
        let (verb, matches) = matches.subcommand().expect("a verb");
        for option in ["labels", "memory", "hive"] {
            if matches.try_contains_id(option).is_ok() {
                assert!(!matches.contains_id(option), "{verb} --{option}");
            }
        }
    }
}

#[test]
fn an_environment_overrides_the_rest_key_by_key() {
    let text = "nats = 'nats://rest'\n[hive]\nports = '1-2'\nlabels = { zone = 'rest', rack = '1' }\n\
                timers = { drain = '1m', hang = '1m' }\n\
                [env.lab]\nnats = 'nats://lab'\n[env.lab.hive]\nlabels = { zone = 'lab' }\n\
                [env.lab.hive.timers]\nhang = '2m'\n[env.home]";
    let rest = [
        ("nats", Some("nats://rest"), line(1)),
        ("hive.ports", Some("1-2"), line(3)),
        ("hive.timers.hang", Some("1m"), line(5)),
    ];
    check(text, None, &["hive"], &rest);
    check(text, Some("home"), &["hive"], &rest);
    let lab = [
        ("nats", Some("nats://lab"), line(7)),
        ("hive.ports", Some("1-2"), line(3)),
        ("hive.labels", Some("zone=lab"), line(9)),
        ("hive.timers.drain", Some("1m"), line(5)),
        ("hive.timers.hang", Some("2m"), line(11)),
    ];
    check(text, Some("lab"), &["hive"], &lab);
    let error = read(text, &command()).expect("valid").choose(Some("labs")).expect_err("it does not exist");
    assert_eq!(error, "unknown environment `labs`; known are home, lab");
    let error = read("", &command()).expect("valid").choose(Some("lab")).expect_err("it does not exist");
    assert!(error.contains("[env.lab]"), "{error}");
}

#[test]
fn every_mistake_of_a_file_is_reported() {
    let text = "\
natz = 'nats://one'
nats = true
max-workers = 3
config = 'other.toml'
threads = 2
queen = 7
json = true

[hive]
max-worker = 3
max_workers = 3
max-workers = 'many'
http = '127.0.0.1:80'
labels = 'a=b,c=d'
ports = { first = 1 }
memory = '1GiB'
worker-memory = '1GiB'
timers = 'drain=5m'
bounds = 'loop_exits=3'

[up]
nats-port = 0

[bus]
port = 0

[apply]
prune = true

[run]
temperature = 0.5

[hvie]
ports = '1-2'

[hive.timer]
drain = '5m'

[engine]
threads = 2

[worker]
devices = 'cpu,cuda'
beat = ['a']

[env]
home = 1

[env.lab]
nats = 5
nam = 'n'

[env.lab.hive]
name = ['a', true]

[env.lab.quen]

[env.lab.serve]
";
    insta::assert_snapshot!(report(Path::new("/etc/rbee/rbee.toml"), &mistakes(text)));
}

#[test]
fn every_mistake_in_a_setting_is_reported() {
    let text = "[connection]\npings = '2s'\nrequest = true\n[hive.timers]\nload_stall = '2s'\ndrain = 5\nsuspect = '20s'\n\
                [hive.limits]\nloop-exits = 0\n[worker]\nanswer-token = 7\n[bus]\nevents-age = '1m'\nqueued = 'many'\n\
                [env.a.queen.timers]\nlost = '1s'\n[env.b.queen.timers]\nlost = '1s'\nsuspect = '500ms'\n";
    insta::assert_snapshot!(report(Path::new("rbee.toml"), &mistakes(text)));
}

#[test]
fn settings_that_conflict_only_in_an_environment_are_reported_there() {
    let text = "[queen.timers]\nsuspect = '5s'\n[env.a.queen.timers]\nlost = '4s'\n";
    let found: Vec<(usize, String)> = mistakes(text).into_iter().map(|found| (found.line, found.key)).collect();
    assert_eq!(found, [(4, "[env.a.queen.timers]".to_owned())]);
}

#[test]
fn invalid_toml_is_reported_without_other_mistakes() {
    let text = "nats = \nnatz = 1\n[hive\nports = '1-2'\n";
    let mistakes = mistakes(text);
    assert!(mistakes.iter().all(|mistake| matches!(mistake.problem, Problem::Syntax(_))), "{mistakes:?}");
    assert_eq!(mistakes.first().map(|mistake| mistake.line), Some(1), "{mistakes:?}");
    assert_eq!(mistakes.last().map(|mistake| mistake.line), Some(3), "{mistakes:?}");
}

#[test]
fn a_password_is_neither_shown_nor_reported() {
    check("nats = 'nats://user:word@host'", None, &["hive"], &[("nats", Some("nats://***@host"), line(1))]);
    let report = report(Path::new("f"), &mistakes("[hive]\nmax-workers = 'nats://user:word@host'"));
    assert!(report.contains("***@host") && !report.contains("word"), "{report}");
}

#[test]
fn every_default_of_every_key_is_valid() {
    let command = command();
    for key in keys() {
        let option = argument(&command, key.option).expect("an option");
        let has_default = key.setting.is_some() || !option.get_default_values().is_empty();
        if has_default {
            let heading = if key.section.is_empty() { String::new() } else { format!("[{}]\n", key.section) };
            let text = format!("{heading}{}", assignment(&key, option));
            if let Err(wrong) = read(&text, &command) {
                panic!("{text}: {}", report(Path::new("rbee.toml"), &wrong));
            }
        }
    }
}

/// The example with every key in effect.
fn uncommented(example: &str) -> String {
    let uncommented = |line: &str| {
        line.strip_prefix('#').filter(|rest| rest.starts_with(char::is_alphabetic)).unwrap_or(line).to_owned()
    };
    example.lines().map(uncommented).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_changes_nothing_until_a_line_is_uncommented() {
    let command = command();
    for (example, keys) in [(write(&command, &documented()), documented()), (full_example(&command), keys())] {
        let values = read(&example, &command).expect("the example is valid");
        assert!(values.common.is_empty() && values.environments.is_empty(), "{values:?}");
        assert!(example.lines().all(|line| line.chars().count() <= 120), "a line is too long");
        let uncommented = uncommented(&example);
        // Placeholders such as SIZE are the only mistakes.
        for mistake in read(&uncommented, &command).expect_err("SIZE is no size") {
            assert!(matches!(mistake.problem, Problem::Value { .. }), "{mistake}");
        }
        for key in keys {
            let line = assignment(&key, argument(&command, key.option).expect("an option"));
            assert!(uncommented.lines().any(|found| found == line), "{line}");
        }
    }
}
