//! Tables of files and what becomes of them, against a small command line.

use std::path::Path;

use clap::{Arg, ArgAction, Command, builder::PossibleValuesParser, value_parser};

use super::{
    Effective, Origin, effective,
    example::{assignment, write},
    mistake::{Mistake, Problem, report},
    read,
    settings::Chosen,
};

fn command() -> Command {
    let option = |name: &'static str| Arg::new(name.replace('-', "_")).long(name).action(ArgAction::Set);
    let devices = PossibleValuesParser::new(["cpu", "cuda", "metal"]);
    let pair = |text: &str| text.split_once('=').map(|_| text.to_owned()).ok_or("expected NAME=VALUE".to_owned());
    let ports = option("ports").default_value("8080-9999");
    let name = option("name").value_name("NAME");
    let port = option("nats-port").value_parser(value_parser!(u16).range(1..)).default_value("4222");
    let workers = option("max-workers").value_parser(value_parser!(u32)).value_name("N");
    let labels = option("labels").action(ArgAction::Append).value_delimiter(',').value_name("NAME=VALUE");
    let timers = option("timers").value_name("NAME=DURATION").default_value("");
    let devices = option("devices").action(ArgAction::Append).value_delimiter(',').value_parser(devices);
    let hive = [ports, name, workers, labels.value_parser(pair), timers, devices.default_value("cpu")];
    let queen = [option("http").default_value("127.0.0.1:7833")];
    Command::new("rbee")
        .arg(option("config").global(true))
        .arg(option("nats").global(true).default_value("nats://127.0.0.1:4222").hide_env_values(true))
        .subcommand(Command::new("up").args(hive.clone()).args(queen.clone()).arg(port))
        .subcommand(Command::new("queen").args(queen))
        .subcommand(Command::new("hive").args(hive))
        .subcommand(Command::new("ps"))
        .subcommand(
            Command::new("serve")
                .arg(Arg::new("model").required(true))
                .arg(option("pin").action(ArgAction::SetTrue))
                .arg(option("priority").value_parser(value_parser!(i32)).default_value("0"))
                .arg(option("cpus").value_parser(value_parser!(f32))),
        )
}

fn chosen(text: &str, environment: Option<&str>) -> Chosen {
    let settings = read(text, &command()).unwrap_or_else(|wrong| panic!("{}", report(Path::new("rbee.toml"), &wrong)));
    settings.choose(environment).expect("the environment is there")
}

fn found(chosen: &Chosen, arguments: &[&str]) -> Vec<Effective> {
    let arguments = std::iter::once("rbee").chain(arguments.iter().copied()).map(Into::into).collect();
    effective(&command(), arguments, chosen, Some(Path::new("rbee.toml"))).expect("the arguments are right")
}

#[track_caller]
fn check(text: &str, environment: Option<&str>, arguments: &[&str], expected: &[(&str, Option<&str>, Origin)]) {
    let found = found(&chosen(text, environment), arguments);
    for (option, value, origin) in expected {
        let found = found.iter().find(|found| found.option == *option).expect("there is such an option");
        assert_eq!((found.value.as_deref(), &found.origin), (*value, origin), "{option} of {arguments:?}");
    }
}

fn line(number: usize) -> Origin {
    Origin::File("rbee.toml".into(), number)
}

fn mistakes(text: &str) -> Vec<Mistake> {
    read(text, &command()).expect_err("the file is wrong")
}

#[test]
fn what_a_file_says_is_the_default_of_the_option() {
    for (text, option, value) in [
        ("nats = 'nats://one'", "nats", "nats://one"),
        ("nats = ['nats://one', 'nats://two']", "nats", "nats://one,nats://two"),
        ("hive.ports = '1-2'", "ports", "1-2"),
        ("[hive]\nmax-workers = 0x1_0", "max-workers", "16"),
        ("[hive]\nmax-workers = '3'", "max-workers", "3"),
        ("[hive]\nlabels = 'a=b,c=d'", "labels", "a=b,c=d"),
        ("[hive]\nlabels = ['a=b', 'c=d']", "labels", "a=b,c=d"),
        ("[hive]\nlabels = { a = 'b', c = 4 }", "labels", "a=b,c=4"),
        ("[hive.timers]\nhang = '1m'\nsilent = '20s'", "timers", "hang=1m,silent=20s"),
        ("[hive]\ntimers = 'silent=20s,hang=1m'", "timers", "silent=20s,hang=1m"),
        ("[hive]\ndevices = ['cpu', 'cuda']", "devices", "cpu,cuda"),
        ("[hive]\ndevices = 'cpu,metal'", "devices", "cpu,metal"),
    ] {
        let all = found(&chosen(text, None), &["hive"]);
        let found = all.iter().find(|found| found.option == option).expect("there is such an option");
        assert_eq!(found.value.as_deref(), Some(value), "{text}");
        assert!(matches!(found.origin, Origin::File(..)), "{text}: {}", found.origin);
    }
    for (text, option, value) in [
        ("[serve]\npin = true", "pin", "true"),
        ("[serve]\npin = false", "pin", "false"),
        ("[serve]\npriority = -5", "priority", "-5"),
        ("[serve]\ncpus = 1.5", "cpus", "1.5"),
    ] {
        check(text, None, &["serve", "m"], &[(option, Some(value), line(2))]);
    }
}

#[test]
fn a_flag_has_precedence_over_the_file_and_the_file_over_the_built_in_default() {
    let text = "nats = 'nats://file'\n[hive]\nports = '1-2'\ndevices = ['cuda', 'metal']\n[serve]\npin = false";
    check(
        text,
        None,
        &["hive", "--ports", "3-4"],
        &[
            ("nats", Some("nats://file"), line(1)),
            ("ports", Some("3-4"), Origin::Flag("ports".to_owned())),
            ("devices", Some("cuda,metal"), line(4)),
            ("name", None, Origin::Default),
        ],
    );
    let flag = |name: &str| Origin::Flag(name.to_owned());
    check(text, None, &["hive", "--devices=cpu"], &[("devices", Some("cpu"), flag("devices"))]);
    check(text, None, &["hive", "--nats=n"], &[("nats", Some("n"), flag("nats"))]);
    check(text, None, &["serve", "m", "--pin"], &[("pin", Some("true"), flag("pin"))]);
    check("", None, &["hive"], &[("ports", Some("8080-9999"), Origin::Default)]);
}

#[test]
fn up_takes_what_is_a_hives_or_a_queens_from_their_sections() {
    let text = "[hive]\nports = '1-2'\n[queen]\nhttp = '0.0.0.0:80'\n[up]\nnats-port = 4223";
    let from_file =
        [("ports", Some("1-2"), line(2)), ("http", Some("0.0.0.0:80"), line(4)), ("nats-port", Some("4223"), line(6))];
    check(text, None, &["up"], &from_file);
    check(text, None, &["hive"], &from_file[..1]);
}

#[test]
fn an_environment_has_precedence_over_the_rest_where_it_is_chosen() {
    let text = "nats = 'nats://rest'\n[hive]\nports = '1-2'\nlabels = { zone = 'rest', rack = '1' }\n\
                [env.lab]\nnats = 'nats://lab'\n[env.lab.hive]\nlabels = { zone = 'lab' }\n[env.home]";
    let rest = [("nats", Some("nats://rest"), line(1)), ("ports", Some("1-2"), line(3))];
    check(text, None, &["hive"], &rest);
    check(text, Some("home"), &["hive"], &rest);
    let lab =
        [("nats", Some("nats://lab"), line(6)), ("ports", Some("1-2"), line(3)), ("labels", Some("zone=lab"), line(8))];
    check(text, Some("lab"), &["hive"], &lab);
    let settings = read(text, &command()).expect("the file is right");
    let error = settings.choose(Some("labs")).expect_err("it is not there");
    assert_eq!(error, "there is no environment `labs`; there are home, lab");
    let error = read("", &command()).expect("right").choose(Some("lab")).expect_err("it is not there");
    assert!(error.contains("[env.lab]"), "{error}");
}

#[test]
fn a_file_is_refused_with_everything_that_is_wrong_in_it() {
    let text = "\
natz = 'nats://one'
nats = true
max-workers = 3
config = 'other.toml'
threads = 2
queen = 7

[hive]
max-worker = 3
max_workers = 3
max-workers = 'many'
http = '127.0.0.1:80'
labels = { zone = true }
timers = 1999-01-01
devices = ['cpu', 'gpu']
ports = { first = 1 }
memory = '1GiB'

[up]
ports = '1-2'
nats-port = 0

[serve]
pin = 'yes'
priority = 1.5
cpus = []

[hvie]
ports = '1-2'

[ps]

[env]
home = 1

[env.lab]
nats = 5
nam = 'n'

[env.lab.hive]
name = ['a', true]

[env.lab.quen]
";
    insta::assert_snapshot!(report(Path::new("/etc/rbee/rbee.toml"), &mistakes(text)));
}

#[test]
fn where_a_file_is_no_toml_only_that_is_told() {
    let text = "nats = \nnatz = 1\n[hive\nports = '1-2'\n";
    let mistakes = mistakes(text);
    assert!(mistakes.iter().all(|mistake| matches!(mistake.problem, Problem::Syntax(_))), "{mistakes:?}");
    assert_eq!(mistakes.first().map(|mistake| mistake.line), Some(1), "{mistakes:?}");
    assert_eq!(mistakes.last().map(|mistake| mistake.line), Some(3), "{mistakes:?}");
}

#[test]
fn a_password_is_neither_shown_nor_told() {
    let all = found(&chosen("nats = 'nats://user:word@host'", None), &["hive"]);
    let nats = all.iter().find(|found| found.option == "nats").expect("there is such an option");
    assert_eq!(nats.value.as_deref(), Some("nats://***@host"));
    let told = report(Path::new("f"), &mistakes("[hive]\nmax-workers = 'nats://user:word@host'"));
    assert!(told.contains("***@host") && !told.contains("word"), "{told}");
}

#[test]
fn each_setting_that_an_option_holds_is_in_the_example_with_a_default_that_is_right() {
    let command = crate::help::command();
    let example = write(&command);
    let mut options = 0;
    for section in super::declared::sections(&command) {
        for option in section.options.iter().filter(|option| super::declared::pair(option).is_some()) {
            let held = super::declared::held(option);
            let spelling = super::declared::spelling(option);
            assert_eq!(held.is_empty(), spelling == "labels", "{spelling} holds settings that nobody can find");
            options += usize::from(!held.is_empty());
            for rbee_schema::SettingInfo { name, default, .. } in held {
                assert!(example.contains(&format!("\n#     {name} = {default}: ")), "{name}");
                let heading = if section.name.is_empty() { String::new() } else { format!("[{}]\n", section.name) };
                let text = format!("{heading}{spelling} = {{ {name} = {default:?} }}");
                if let Err(wrong) = read(&text, &command) {
                    panic!("{}", report(Path::new("rbee.toml"), &wrong));
                }
            }
        }
    }
    assert_eq!(options, 7);
}

#[test]
fn a_wrong_setting_is_told_with_its_place_and_what_was_meant() {
    let command = crate::help::command();
    let text = "connection = { pings = '2s' }\n[hive]\ntimers = { silent = '2s' }\nbounds = { loop_exits = 0 }\n\
                worker-settings = 'answer_token=7'\n[queen]\nbus-limits = { events_age = '1m' }\n";
    insta::assert_snapshot!(report(Path::new("rbee.toml"), &read(text, &command).expect_err("it is wrong")));
}

#[test]
fn the_example_is_right_and_says_nothing_until_a_line_is_uncommented() {
    let command = crate::help::command();
    let example = write(&command);
    let settings = read(&example, &command).expect("the example is right");
    assert_eq!(settings, super::settings::Settings::default());
    assert!(example.lines().all(|line| line.chars().count() <= 120), "no line is too long");

    let uncommented: Vec<&str> = example
        .lines()
        .map(|line| {
            line.strip_prefix('#').filter(|rest| rest.starts_with(|it: char| it.is_alphabetic())).unwrap_or(line)
        })
        .collect();
    let mistakes = read(&uncommented.join("\n"), &command).expect_err("SIZE is no size");
    for mistake in &mistakes {
        assert!(matches!(mistake.problem, Problem::Value { .. }), "{mistake}");
    }
    for section in super::declared::sections(&command) {
        for option in section.options {
            let line = assignment(option);
            assert!(uncommented.contains(&line.as_str()), "{line}");
            let default: Vec<_> = option.get_default_values().iter().map(|it| it.to_string_lossy()).collect();
            if !default.concat().is_empty() {
                let text = if section.name.is_empty() { line } else { format!("[{}]\n{line}", section.name) };
                let settings = read(&text, &command).expect("a default is right");
                let given: Vec<_> = settings.everywhere.iter().flat_map(|given| given.values.clone()).collect();
                assert_eq!(given, default, "{text}");
            }
        }
    }
}
