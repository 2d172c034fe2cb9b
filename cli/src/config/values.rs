//! Values of a file, and the command line with these as its defaults.

use std::collections::BTreeMap;

use clap::{Arg, Command};

use super::{
    keys::{Key, ROLE_VERBS},
    mistake::Remedy,
    settings::settings_option,
};

/// A key of the file with its value.
#[derive(Debug, Clone)]
pub(crate) struct FileValue {
    pub(super) key: Key,
    /// The value as the command line would receive it.
    pub(super) values: Vec<String>,
    /// Line of the key, from 1.
    pub(super) line: usize,
    /// Column of the key, from 1.
    pub(super) column: usize,
}

/// All values of a file.
#[derive(Debug, Clone, Default)]
pub(crate) struct FileValues {
    /// Values that apply in every environment.
    pub(super) common: Vec<FileValue>,
    /// Values of each environment, which override the common ones.
    pub(super) environments: BTreeMap<String, Vec<FileValue>>,
}

/// Values of a file that apply in one environment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Defaults(Vec<FileValue>);

impl FileValues {
    /// Values that apply in an environment, or without one.
    ///
    /// # Errors
    /// There is no such environment.
    pub(crate) fn choose(&self, environment: Option<&str>) -> Result<Defaults, String> {
        let special = match environment.map(|name| (name, self.environments.get(name))) {
            None => &[][..],
            Some((_, Some(values))) => values.as_slice(),
            Some((name, None)) if self.environments.is_empty() => {
                return Err(format!("unknown environment `{name}`: the file has no section [env.{name}]"));
            }
            Some((name, None)) => {
                let remedy = Remedy::Known(self.environments().map(str::to_owned).collect());
                return Err(format!("unknown environment `{name}`; {remedy}"));
            }
        };
        Ok(Defaults(overlay(&self.common, special)))
    }

    /// Names of the environments.
    pub(crate) fn environments(&self) -> impl Iterator<Item = &str> {
        self.environments.keys().map(String::as_str)
    }
}

/// The common values, overridden key by key by those of an environment.
pub(super) fn overlay(common: &[FileValue], special: &[FileValue]) -> Vec<FileValue> {
    let is_overridden = |value: &&FileValue| {
        special.iter().any(|other| (other.key.section, &other.key.name) == (value.key.section, &value.key.name))
    };
    common.iter().filter(|value| !is_overridden(value)).chain(special).cloned().collect()
}

/// Settings as the pairs that their option takes: `drain=5m,hang=1m`.
pub(super) fn pairs(values: &[FileValue]) -> String {
    let pair = |value: &FileValue| {
        value.key.setting.as_ref().map(|setting| format!("{}={}", setting.name, value.values.join(",")))
    };
    values.iter().filter_map(pair).collect::<Vec<_>>().join(",")
}

impl Defaults {
    /// The value that the file has for a key.
    pub(super) fn get(&self, key: &Key) -> Option<&FileValue> {
        self.0.iter().find(|value| (value.key.section, &value.key.name) == (key.section, &key.name))
    }

    /// The command line with these defaults. Values of roles apply to the verbs that run roles.
    pub(crate) fn apply(&self, command: Command) -> Command {
        let command = command.mut_args(|option| self.apply_to(option));
        ROLE_VERBS.iter().fold(command, |command, verb| {
            if command.find_subcommand(verb).is_none() {
                return command;
            }
            command.mut_subcommand(verb, |verb| verb.mut_args(|option| self.apply_to(option)))
        })
    }

    fn apply_to(&self, option: Arg) -> Arg {
        let id = option.get_id().to_string();
        let values: Vec<FileValue> = self.0.iter().filter(|value| value.key.option == id).cloned().collect();
        match (values.first(), settings_option(&id)) {
            (None, _) => option,
            (Some(_), Some(holder)) => (holder.with_base)(option, pairs(&values)),
            (Some(value), None) => option.default_values(value.values.clone()),
        }
    }
}
