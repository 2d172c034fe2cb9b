//! A file that names every option, with its default and its description: all of it commented out.

use clap::{Arg, Command};

use rbee_schema::SettingInfo;

use super::declared::{Section, TOP, held, is_flag, is_list, pair, sections, sections_of, spelling, value_name};
use crate::help::command;

/// As wide as our files are.
const WIDTH: usize = 120;

const HEAD: &str = r#"
The configuration of rbee: every option that there is, with its default where it has a fixed one. `rbee config
example` prints this file, `rbee config check FILE` says whether one is right, and `rbee config show` what holds and
where that comes from.

rbee reads the file that --config or RBEE_CONFIG names, else rbee/rbee.toml in the user's configuration folder
(XDG_CONFIG_HOME, else .config in HOME), else /etc/rbee/rbee.toml. A flag has precedence over an environment
variable, a variable over this file. Each key is the name of a flag. A list is one text with commas or an array,
pairs are one text or a table, and whatever takes a duration or a size takes it as the flag does: "90s", "8GiB". A
path that is not whole starts at the folder in which rbee is started. Who may read this file reads the passwords in
it; RBEE_NATS keeps them elsewhere. A token for the hub comes from the variable HF_TOKEN alone.

Environments are sections like the rest below [env.NAME]. What one says has precedence over the rest of the file
when it is chosen by --env NAME or RBEE_ENV:

    [env.lab]
    nats = "nats://lab:4222"
    [env.lab.hive]
    labels = { zone = "lab" }
    timers = { silent = "20s" }
"#;

/// What the help of an option says that holds several settings.
const POINTER: &str = "`rbee config example` lists them with their defaults.";

/// The file.
pub fn example() -> String {
    write(&command())
}

pub(super) fn write(command: &Command) -> String {
    let mut text = HEAD.trim().lines().map(|line| format!("# {line}").trim_end().to_owned() + "\n").collect::<String>();
    for section in sections(command) {
        text.push_str(&format!("\n{}", heading(&section)));
        for option in &section.options {
            let held: String = held(option).iter().map(setting).collect();
            text.push_str(&format!("\n{}{held}#{}\n", comment(&description(option)), assignment(option)));
        }
    }
    text
}

fn heading(section: &Section<'_>) -> String {
    if section.name == TOP {
        return comment(&format!("{}.", section.about));
    }
    let about = comment(&format!("rbee {}: {}.", section.name, section.about));
    let lenders: Vec<String> = sections_of(section.name).skip(1).map(|lender| format!("[{lender}]")).collect();
    let lent = match lenders.as_slice() {
        [] => String::new(),
        lenders => comment(&format!("What it has in common with {} it takes from there.", lenders.join(" and "))),
    };
    format!("{about}{lent}[{}]\n", section.name)
}

fn description(option: &Arg) -> String {
    let help = option.get_long_help().or(option.get_help()).map(ToString::to_string).unwrap_or_default();
    let variable = option.get_env().map(|variable| format!(" Variable: {}.", variable.to_string_lossy()));
    let possible: Vec<String> = option.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    let possible = (!is_flag(option) && !possible.is_empty()).then(|| format!(" Possible: {}.", possible.join(", ")));
    let end = if help.ends_with(['.', '?', '!']) { "" } else { "." };
    let text = format!("{help}{end}{}{}", possible.unwrap_or_default(), variable.unwrap_or_default());
    // Here they are.
    if held(option).is_empty() { text } else { text.replace(POINTER, "") + " There are:" }
}

/// The option with its default, or with what it calls its value.
pub(super) fn assignment(option: &Arg) -> String {
    let defaults: Vec<String> =
        option.get_default_values().iter().map(|it| it.to_string_lossy().into_owned()).collect();
    let value = match (defaults.as_slice(), pair(option)) {
        _ if is_flag(option) => "false".to_owned(),
        ([] | [_], Some((name, value))) if defaults.join("").is_empty() => format!("{{ {name} = {value:?} }}"),
        ([], _) if is_list(option) => format!("[{:?}]", value_name(option)),
        ([], _) => format!("{:?}", value_name(option)),
        (defaults, _) if is_list(option) => format!("{defaults:?}"),
        (defaults, _) if defaults.iter().all(|it| it.parse::<i64>().is_ok()) => defaults.join(","),
        (defaults, _) => format!("{:?}", defaults.join(",")),
    };
    format!("{} = {value}", spelling(option))
}

/// A setting that an option holds, in lines of its own.
fn setting(SettingInfo { name, default, reason }: &SettingInfo) -> String {
    lines(&format!("{name} = {default}: {reason}"), "#    ")
}

/// A text as lines of a comment.
fn comment(text: &str) -> String {
    lines(text, "#")
}

/// A text as lines that begin with `start`.
fn lines(text: &str, start: &str) -> String {
    let mut lines = vec![start.to_owned()];
    for word in text.split_whitespace() {
        if lines.last().is_some_and(|line| line.chars().count() + 1 + word.chars().count() > WIDTH) {
            lines.push(start.to_owned());
        }
        if let Some(line) = lines.last_mut() {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines.join("\n") + "\n"
}
