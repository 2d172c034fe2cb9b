//! The example of a configuration file: its keys with defaults and descriptions, all commented out.

use clap::{Arg, Command};
use rbee_schema::SettingInfo;

use super::keys::{Key, SECTIONS, TOP, argument, is_flag, is_list, keys, literal, pair, spelling, value_name};

/// Columns of the example.
const WIDTH: usize = 120;

const HEAD: &str = r#"
Configuration of rbee, with the default of each key. `rbee config example` prints this file, `rbee config check FILE`
checks a file, and `rbee config show` prints the values that apply and where each comes from.

rbee reads the file that --config or RBEE_CONFIG names, else rbee/rbee.toml in the user's configuration folder
(XDG_CONFIG_HOME, else ~/.config), else /etc/rbee/rbee.toml. A flag overrides an environment variable, a variable
overrides the file. rbee refuses to start with an invalid file and reports every mistake in it.

The file configures roles. Verbs such as `rbee run` take their options as flags. Durations and sizes are strings such
as "90s" and "8GiB". A relative path starts at the folder in which rbee is started. Whoever can read the file can
read a password in it; RBEE_NATS keeps the password of the bus elsewhere. The token for the hub comes from HF_TOKEN
only.

Environments are tables below [env.NAME] with the same sections. `--env NAME` or RBEE_ENV lets their keys override
the others:

    [env.lab]
    nats = "nats://lab:4222"
    [env.lab.hive]
    labels = { zone = "lab" }
    [env.lab.hive.timers]
    hang = "1m"

These are the keys that operators change. `rbee config example --all` prints every key; the others suit unusual
networks and tests. docs/adr/0015-what-is-a-setting.md has the reasons.
"#;

/// The documented keys.
pub(crate) fn example(command: &Command) -> String {
    write(command, &documented())
}

/// Every key.
pub(crate) fn full_example(command: &Command) -> String {
    write(command, &keys())
}

pub(super) fn documented() -> Vec<Key> {
    keys().into_iter().filter(Key::is_documented).collect()
}

pub(super) fn write(command: &Command, keys: &[Key]) -> String {
    let mut text = HEAD.trim().lines().map(|line| format!("# {line}").trim_end().to_owned() + "\n").collect::<String>();
    for (section, about) in SECTIONS {
        let keys: Vec<&Key> = keys.iter().filter(|key| key.section == section).collect();
        if keys.is_empty() {
            continue;
        }
        let heading = if section == TOP { String::new() } else { format!("[{section}]\n") };
        text.push_str(&format!("\n{}{heading}", comment(about)));
        for key in keys {
            if let Some(option) = argument(command, key.option) {
                text.push_str(&format!("\n{}#{}\n", comment(&description(key, option)), assignment(key, option)));
            }
        }
    }
    text
}

fn description(key: &Key, option: &Arg) -> String {
    match &key.setting {
        Some(SettingInfo { reason, .. }) => (*reason).to_owned(),
        None => {
            let help = option.get_help().map(ToString::to_string).unwrap_or_default();
            // The file has a table instead of such pairs.
            let help = help.replace(" (NAME=VALUE,...)", "");
            let end = if help.ends_with(['.', '?', '!']) { "" } else { "." };
            let variable = option.get_env().map(|variable| format!(", variable {}", variable.to_string_lossy()));
            format!("{help}{end} Flag --{}{}.", spelling(option), variable.unwrap_or_default())
        }
    }
}

/// The key with its default, or with the placeholder of its value.
pub(super) fn assignment(key: &Key, option: &Arg) -> String {
    let defaults: Vec<String> =
        option.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    let value = match (&key.setting, defaults.as_slice()) {
        (Some(setting), _) => literal(&setting.default),
        _ if is_flag(option) => "false".to_owned(),
        (None, []) => match pair(option) {
            Some((name, value)) => format!("{{ {name} = {value:?} }}"),
            None if is_list(option) => format!("[{:?}]", value_name(option)),
            None => format!("{:?}", value_name(option)),
        },
        (None, defaults) if is_list(option) => format!("{defaults:?}"),
        (None, defaults) => literal(&defaults.join(",")),
    };
    format!("{} = {value}", key.name)
}

/// Text as a comment of several lines.
fn comment(text: &str) -> String {
    let mut lines = vec!["#".to_owned()];
    for word in text.split_whitespace() {
        if lines.last().is_some_and(|line| line.chars().count() + 1 + word.chars().count() > WIDTH) {
            lines.push("#".to_owned());
        }
        if let Some(line) = lines.last_mut() {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines.join("\n") + "\n"
}
