//! Values that apply to a role, and their origins.

use std::{
    ffi::OsString,
    fmt::{self, Display, Formatter},
    path::{Path, PathBuf},
};

use clap::{Arg, ArgMatches, Command, parser::ValueSource};

use super::{
    keys::{Key, argument, keys, spelling},
    request::Configuration,
    secret,
    values::Defaults,
};

/// Value of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EffectiveValue {
    /// Section of the key; empty for keys before the first section.
    pub(crate) section: String,
    /// Name of the key.
    pub(crate) key: String,
    /// The value without passwords; none if the role decides at its start.
    pub(crate) value: Option<String>,
    /// Origin of the value.
    pub(crate) origin: Origin,
}

/// Origin of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A flag of the command line.
    Flag(String),
    /// An environment variable.
    Variable(String),
    /// A line of the file.
    File(PathBuf, usize),
    /// The built-in default.
    Default,
}

impl Display for Origin {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "--{name}"),
            Self::Variable(name) => write!(f, "{name}"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Default => write!(f, "default"),
        }
    }
}

/// Every documented key of a role with its value, if the role is started with these arguments; and every other key that
/// differs from its default. `command` is the declaration of the command line, `file` the file that has the defaults.
///
/// # Errors
/// clap refuses an argument or a variable.
pub(crate) fn effective(
    command: &Command,
    arguments: Vec<OsString>,
    defaults: &Defaults,
    file: Option<&Path>,
) -> Result<Vec<EffectiveValue>, clap::Error> {
    let matches = defaults.apply(command.clone()).try_get_matches_from(arguments)?;
    let Some((_, matches)) = matches.subcommand() else { return Ok(Vec::new()) };
    let evaluation = Evaluation { command, matches, defaults, file };
    let is_relevant = |(key, value): &(Key, EffectiveValue)| key.is_documented() || value.origin != Origin::Default;
    let values = keys().into_iter().filter_map(|key| evaluation.value(&key).map(|value| (key, value)));
    Ok(values.filter(is_relevant).map(|(_, value)| value).collect())
}

/// Origin of the value that an option of the command line has. `command` is the declaration of the command line, `matches` its
/// result.
pub(crate) fn origin(command: &Command, matches: &ArgMatches, configuration: &Configuration, option: &str) -> Origin {
    let evaluation =
        Evaluation { command, matches, defaults: &configuration.defaults, file: configuration.file.as_deref() };
    let key = keys().into_iter().find(|key| key.option == option);
    key.and_then(|key| evaluation.value(&key)).map_or(Origin::Default, |value| value.origin)
}

struct Evaluation<'a> {
    command: &'a Command,
    matches: &'a ArgMatches,
    defaults: &'a Defaults,
    file: Option<&'a Path>,
}

impl Evaluation<'_> {
    /// Value of a key; none if the role does not have the option.
    fn value(&self, key: &Key) -> Option<EffectiveValue> {
        let option = argument(self.command, key.option)?;
        self.matches.try_contains_id(key.option).ok()?;
        let (value, is_given) = match &key.setting {
            None => (self.raw(key.option), true),
            Some(setting) => {
                let given = self.raw(key.option).and_then(|pairs| pair_value(&pairs, setting.name));
                let is_given = given.is_some();
                let in_file = || self.defaults.get(key).map(|value| value.values.join(","));
                (given.or_else(in_file).or_else(|| Some(setting.default.clone())), is_given)
            }
        };
        Some(EffectiveValue {
            section: key.section.to_owned(),
            key: key.name.clone(),
            value: value.map(|value| secret::redact(option, &value)),
            origin: self.origin(key, option, is_given),
        })
    }

    /// Text of an option; none if it is empty.
    fn raw(&self, option: &str) -> Option<String> {
        let values: Vec<_> = self.matches.get_raw(option)?.map(|value| value.to_string_lossy()).collect();
        Some(values.join(",")).filter(|value| !value.is_empty())
    }

    /// Origin of a value. `is_given` is false for a setting that the flag or variable does not name.
    fn origin(&self, key: &Key, option: &Arg, is_given: bool) -> Origin {
        let variable = option.get_env().map(|name| name.to_string_lossy().into_owned());
        match (self.matches.value_source(key.option), variable, self.defaults.get(key), self.file) {
            (Some(ValueSource::CommandLine), ..) if is_given => Origin::Flag(spelling(option).to_owned()),
            (Some(ValueSource::EnvVariable), Some(variable), ..) if is_given => Origin::Variable(variable),
            (_, _, Some(value), Some(file)) => Origin::File(file.to_owned(), value.line),
            _ => Origin::Default,
        }
    }
}

/// The last value of a setting in `NAME=VALUE` pairs.
fn pair_value(pairs: &str, name: &str) -> Option<String> {
    let mut pairs = pairs.rsplit(',').filter_map(|pair| pair.split_once('='));
    pairs.find(|(found, _)| found.trim() == name).map(|(_, value)| value.trim().to_owned())
}
