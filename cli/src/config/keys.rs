//! Every key of the file: its section, and the option that it sets.

use clap::{Arg, ArgAction, Command};
use rbee_schema::SettingInfo;

use super::settings::{SETTINGS, section_of};

/// The section without a heading, before the first `[section]`.
pub(super) const TOP: &str = "";

/// The table of the environments.
pub(super) const ENVIRONMENTS: &str = "env";

/// Verbs that run roles. They take their defaults from the file; other verbs take only the keys of [`TOP`] and
/// `[connection]`.
pub(crate) const ROLE_VERBS: [&str; 3] = ["up", "queen", "hive"];

/// The verb that reads the file itself.
pub(crate) const FILE_VERB: &str = "config";

/// Options that choose the file and the environment, and so cannot be keys of the file.
pub(super) const FILE_OPTIONS: [&str; 2] = ["config", "env"];

/// Sections with their descriptions, in the order of the example.
pub(super) const SECTIONS: [(&str, &str); 11] = [
    (TOP, "Connection and output of every rbee process."),
    ("connection", "Timeouts of the connection to the bus."),
    (
        "bus",
        "The server that `rbee up` starts, and what the streams on any server keep. The queen that starts last sets the limits.",
    ),
    ("queen", "The queen, which decides where models run."),
    ("queen.timers", "Timeouts and intervals of the queen."),
    ("queen.limits", "Limits of the queen."),
    ("gateway", "The OpenAI-compatible HTTP API of a queen."),
    ("hive", "The hive of this machine, which runs workers."),
    ("hive.timers", "Timeouts and intervals of the hive."),
    ("hive.limits", "Limits of the hive."),
    ("worker", "Workers that the hive starts. Running workers keep the settings that they started with."),
];

/// Keys that set an option of the command line: section, key, id of the option.
const OPTIONS: [(&str, &str, &str); 21] = [
    (TOP, "nats", "nats"),
    (TOP, "namespace", "namespace"),
    (TOP, "patience", "patience"),
    (TOP, "log-file", "log_file"),
    (TOP, "otlp", "otlp"),
    ("bus", "port", "nats_port"),
    ("queen", "name", "queen_name"),
    ("queen", "hive", "hive"),
    ("gateway", "listen", "http"),
    ("hive", "name", "name"),
    ("hive", "data", "data"),
    ("hive", "models", "models"),
    ("hive", "hub", "hub"),
    ("hive", "ports", "ports"),
    ("hive", "metrics", "metrics"),
    ("hive", "max-workers", "max_workers"),
    ("hive", "labels", "labels"),
    ("worker", "program", "worker_program"),
    ("worker", "devices", "worker_devices"),
    ("worker", "memory", "worker_memory"),
    ("worker", "open-files", "worker_open_files"),
];

/// Keys that operators change: those that the example documents. `docs/adr/0015-what-is-a-setting.md` has the reasons.
const DOCUMENTED: [(&str, &str); 32] = [
    (TOP, "nats"),
    (TOP, "namespace"),
    (TOP, "log-file"),
    (TOP, "otlp"),
    ("bus", "port"),
    ("bus", "queued"),
    ("bus", "interactive-queue-deadline"),
    ("bus", "interactive-deadline"),
    ("bus", "batch-queue-deadline"),
    ("bus", "batch-deadline"),
    ("bus", "body-size"),
    ("bus", "output-age"),
    ("bus", "output-size"),
    ("bus", "events-age"),
    ("bus", "events-size"),
    ("queen", "name"),
    ("queen", "hive"),
    ("queen.timers", "lost"),
    ("gateway", "listen"),
    ("gateway", "patience"),
    ("hive", "name"),
    ("hive", "data"),
    ("hive", "models"),
    ("hive", "ports"),
    ("hive", "metrics"),
    ("hive", "max-workers"),
    ("hive", "labels"),
    ("hive.timers", "drain"),
    ("hive.timers", "shutdown"),
    ("hive.timers", "hang"),
    ("worker", "memory"),
    ("worker", "answer-tokens"),
];

/// A key of the file.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) section: &'static str,
    pub(super) name: String,
    /// Id of the option that the key sets.
    pub(super) option: &'static str,
    /// The setting that the key changes, if the option holds several.
    pub(super) setting: Option<SettingInfo>,
}

impl Key {
    /// True if the example shows this key.
    pub(super) fn is_documented(&self) -> bool {
        DOCUMENTED.contains(&(self.section, self.name.as_str()))
    }
}

/// Every key, section by section in the order of [`SECTIONS`].
pub(super) fn keys() -> Vec<Key> {
    let of_options =
        OPTIONS.iter().map(|(section, name, option)| Key { section, name: (*name).to_owned(), option, setting: None });
    let of_settings = SETTINGS.iter().flat_map(|holder| {
        (holder.describe)().into_iter().map(|setting| Key {
            section: section_of(holder.option, setting.name),
            // Keys are spelled as flags are.
            name: setting.name.replace('_', "-"),
            option: holder.option,
            setting: Some(setting),
        })
    });
    let all: Vec<Key> = of_options.chain(of_settings).collect();
    let of_section = |section: &str| all.iter().filter(move |key| key.section == section).cloned().collect::<Vec<_>>();
    SECTIONS.iter().flat_map(|(section, _)| of_section(section)).collect()
}

/// The declaration of an option: one of every verb, or one of a verb that runs a role.
pub(super) fn argument<'c>(command: &'c Command, option: &str) -> Option<&'c Arg> {
    let roles = ROLE_VERBS.iter().filter_map(|verb| command.find_subcommand(verb));
    let mut commands = std::iter::once(command).chain(roles);
    commands.find_map(|command| command.get_arguments().find(|argument| argument.get_id() == option))
}

/// Name of an option on the command line.
pub(super) fn spelling(option: &Arg) -> &str {
    option.get_long().unwrap_or_default()
}

/// True if an option takes no value.
pub(super) fn is_flag(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::SetTrue)
}

/// True if an option takes several values.
pub(super) fn is_list(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::Append)
}

/// Placeholder of an option's value.
pub(super) fn value_name(option: &Arg) -> String {
    let name = option.get_value_names().and_then(|names| names.first());
    name.map_or_else(|| spelling(option).to_uppercase(), ToString::to_string)
}

/// Placeholders of name and value, if an option takes such pairs.
pub(super) fn pair(option: &Arg) -> Option<(String, String)> {
    let (name, value) = value_name(option).split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))?;
    Some((name, value))
}

/// A value as TOML: a number as a number, everything else as a string.
pub(super) fn literal(text: &str) -> String {
    if text.parse::<i64>().is_ok() { text.to_owned() } else { format!("{text:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command_line::command;

    #[test]
    fn every_key_sets_an_option_and_every_option_of_a_role_has_a_key() {
        let (command, keys) = (command(), keys());
        for key in &keys {
            assert!(argument(&command, key.option).is_some(), "[{}] {}", key.section, key.name);
        }
        let roles = ROLE_VERBS.iter().filter_map(|verb| command.find_subcommand(verb));
        for option in std::iter::once(&command).chain(roles).flat_map(Command::get_arguments) {
            let id = option.get_id().as_str();
            // JSON is for one run of one verb.
            let is_excluded = FILE_OPTIONS.contains(&id) || matches!(id, "json" | "help" | "version");
            assert_eq!(keys.iter().any(|key| key.option == id), !is_excluded, "{id}");
        }
    }

    #[test]
    fn no_two_keys_of_a_section_have_the_same_name() {
        let mut names: Vec<(&str, String)> = keys().into_iter().map(|key| (key.section, key.name)).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn about_30_keys_are_documented_and_each_exists() {
        let documented: Vec<(&str, String)> =
            keys().into_iter().filter(Key::is_documented).map(|key| (key.section, key.name)).collect();
        assert_eq!(documented.len(), DOCUMENTED.len(), "{documented:?}");
    }
}
