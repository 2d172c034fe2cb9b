//! What holds for a verb, and where each value comes from.

use std::{
    ffi::OsString,
    fmt::{self, Display, Formatter},
    path::{Path, PathBuf},
};

use clap::{Arg, ArgMatches, Command, parser::ValueSource};

use super::{
    declared::{TOP, sections, sections_of, spelling},
    secret,
    settings::Chosen,
};

/// The value of an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Effective {
    /// The section of the file in which it could stand; empty for what stands before the first.
    pub(crate) section: String,
    /// The option.
    pub(crate) option: String,
    /// What it is, without passwords; none where the option's description says what is done then.
    pub(crate) value: Option<String>,
    /// Where that comes from.
    pub(crate) origin: Origin,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The command line.
    Flag(String),
    /// An environment variable.
    Variable(String),
    /// The file, and the line in it.
    File(PathBuf, usize),
    /// Nobody said anything.
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

/// Every option of a verb as it holds when the process is started with these arguments. `command` is the declaration, to
/// which `chosen`, from `file`, gives its defaults.
///
/// # Errors
/// What the parser says of the arguments or of an environment variable.
pub(crate) fn effective(
    command: &Command,
    arguments: Vec<OsString>,
    chosen: &Chosen,
    file: Option<&Path>,
) -> Result<Vec<Effective>, clap::Error> {
    let matches = chosen.apply(command.clone()).try_get_matches_from(arguments)?;
    let Some((verb, of_verb)) = matches.subcommand() else { return Ok(Vec::new()) };
    let names: Vec<&str> = std::iter::once(TOP).chain(sections_of(verb)).collect();
    let all = sections(command).into_iter().filter(|section| names.contains(&section.name));
    let values = all.flat_map(|section| {
        let of_section = |option: &Arg| {
            let verb = if section.name == TOP { TOP } else { verb };
            Effective {
                section: section.name.to_owned(),
                option: spelling(option).to_owned(),
                value: value(option, of_verb),
                origin: origin(verb, option, of_verb, chosen, file),
            }
        };
        // A verb that takes another one's options need not take all of them.
        let is_taken = |option: &&&Arg| of_verb.try_contains_id(option.get_id().as_str()).is_ok();
        section.options.iter().filter(is_taken).map(|option| of_section(option)).collect::<Vec<_>>()
    });
    Ok(values.collect())
}

fn value(option: &Arg, matches: &ArgMatches) -> Option<String> {
    let values: Vec<_> = matches.get_raw(option.get_id().as_str())?.map(|value| value.to_string_lossy()).collect();
    let value = values.join(",");
    (!value.is_empty()).then(|| secret::shown(option, &value))
}

fn origin(verb: &str, option: &Arg, matches: &ArgMatches, chosen: &Chosen, file: Option<&Path>) -> Origin {
    let variable = option.get_env().map(|name| name.to_string_lossy().into_owned());
    match (matches.value_source(option.get_id().as_str()), variable, chosen.of(verb, option), file) {
        (Some(ValueSource::CommandLine), ..) => Origin::Flag(spelling(option).to_owned()),
        (Some(ValueSource::EnvVariable), Some(variable), ..) => Origin::Variable(variable),
        (_, _, Some(given), Some(file)) => Origin::File(file.to_owned(), given.line),
        _ => Origin::Default,
    }
}
