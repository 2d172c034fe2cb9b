//! What a file says, and the command line with that as its defaults.

use std::collections::BTreeMap;

use clap::{Arg, Command};

use super::{
    declared::{TOP, sections_of},
    mistake::Remedy,
};

/// A value of an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    /// The section, as a verb is named; empty for what is not a verb's.
    pub(super) section: String,
    /// The option, as its declaration is identified.
    pub(super) option: String,
    /// Its values, as the command line would be given them.
    pub(super) values: Vec<String>,
    /// Where it stands, from 1.
    pub(super) line: usize,
}

/// Everything that a file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// In every environment.
    pub(super) everywhere: Vec<Given>,
    /// In one of them, and before what holds everywhere.
    pub(super) environments: BTreeMap<String, Vec<Given>>,
}

/// What a file says in one environment, by section and option.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Chosen(BTreeMap<(String, String), Given>);

impl Settings {
    /// What holds in an environment, or outside of all.
    ///
    /// # Errors
    /// There is no such environment; the message says which there are.
    pub(crate) fn choose(&self, environment: Option<&str>) -> Result<Chosen, String> {
        let special = match environment.map(|name| (name, self.environments.get(name))) {
            None => &[][..],
            Some((_, Some(given))) => given.as_slice(),
            Some((name, None)) if self.environments.is_empty() => {
                return Err(format!("there is no environment `{name}`: the file has none, as [env.{name}] would be"));
            }
            Some((name, None)) => {
                let remedy = Remedy::Known(self.environments().map(str::to_owned).collect());
                return Err(format!("there is no environment `{name}`; {remedy}"));
            }
        };
        let all = self.everywhere.iter().chain(special);
        Ok(Chosen(all.map(|given| ((given.section.clone(), given.option.clone()), given.clone())).collect()))
    }

    /// The names of the environments.
    pub(crate) fn environments(&self) -> impl Iterator<Item = &str> {
        self.environments.keys().map(String::as_str)
    }
}

impl Chosen {
    /// What is given for an option of a verb; a verb without a name has the options of all.
    pub(super) fn of(&self, verb: &str, option: &Arg) -> Option<&Given> {
        let option = option.get_id().as_str();
        sections_of(verb).find_map(|section| self.0.get(&(section.to_owned(), option.to_owned())))
    }

    /// The command line with these defaults. They were checked by the parsers that will see them.
    pub(crate) fn apply(&self, command: Command) -> Command {
        command.mut_args(|option| self.with_default(TOP, option)).mut_subcommands(|verb| {
            let name = verb.get_name().to_owned();
            verb.mut_args(|option| self.with_default(&name, option))
        })
    }

    fn with_default(&self, verb: &str, option: Arg) -> Arg {
        match self.of(verb, &option) {
            Some(given) => option.default_values(given.values.clone()),
            None => option,
        }
    }
}
