//! What may stand in the file: the options that the command line declares, by section.

use clap::{Arg, ArgAction, Command};
use rbee_hive::decide::{bounds::Bounds, timers::Timers};
use rbee_nats::{BusLimits, ConnectionSettings};
use rbee_queen::decide::{limits::QueenLimits, timers::Timers as QueenTimers};
use rbee_schema::{SettingInfo, Settings as _, WorkerSettings};

/// The section without a name: what stands before the first `[section]`.
pub(super) const TOP: &str = "";

/// The section of the environments.
pub(super) const ENVIRONMENTS: &str = "env";

/// A verb that runs other verbs' roles has their options too, and takes them from their sections.
const TOGETHER: (&str, [&str; 2]) = ("up", ["hive", "queen"]);

/// Options that say which file is read, and so cannot stand in it.
const ABOUT_THE_FILE: [&str; 2] = ["config", "env"];

/// A section of the file: a verb, with the options that it does not have from another section.
pub(super) struct Section<'c> {
    pub(super) name: &'c str,
    pub(super) about: String,
    pub(super) options: Vec<&'c Arg>,
}

/// Every section that has options.
pub(super) fn sections(command: &Command) -> Vec<Section<'_>> {
    let top = Section { name: TOP, about: "Options of every verb".to_owned(), options: options_of(command).collect() };
    let verbs = command.get_subcommands().map(|verb| Section {
        name: verb.get_name(),
        about: verb.get_about().map(ToString::to_string).unwrap_or_default(),
        options: options_of(verb).filter(|option| !is_lent(command, verb.get_name(), option)).collect(),
    });
    std::iter::once(top).chain(verbs).filter(|section| !section.options.is_empty()).collect()
}

/// The sections that a verb takes its options from.
pub(super) fn sections_of(verb: &str) -> impl Iterator<Item = &str> {
    let others: &[&str] = if verb == TOGETHER.0 { &TOGETHER.1 } else { &[] };
    std::iter::once(verb).chain(others.iter().copied())
}

/// How an option is spelled, here and on the command line.
pub(super) fn spelling(option: &Arg) -> &str {
    option.get_long().unwrap_or_default()
}

/// Whether an option is there or not, and takes no value.
pub(super) fn is_flag(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::SetTrue)
}

/// Whether an option takes several values.
pub(super) fn is_list(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::Append)
}

/// What an option calls its value.
pub(super) fn value_name(option: &Arg) -> String {
    let name = option.get_value_names().and_then(|names| names.first());
    name.map_or_else(|| spelling(option).to_uppercase(), ToString::to_string)
}

/// The name and the value of an option that takes pairs of those, as it calls them.
pub(super) fn pair(option: &Arg) -> Option<(String, String)> {
    let (name, value) = value_name(option).split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))?;
    Some((name, value))
}

/// The settings that an option holds by name, where it is one of those.
pub(super) fn held(option: &Arg) -> Vec<SettingInfo> {
    match option.get_id().as_str() {
        "connection" => ConnectionSettings::describe(),
        "timers" => Timers::describe(),
        "bounds" => Bounds::describe(),
        "worker_settings" => WorkerSettings::describe(),
        "queen_timers" => QueenTimers::describe(),
        "queen_bounds" => QueenLimits::describe(),
        "bus_limits" => BusLimits::describe(),
        _ => Vec::new(),
    }
}

fn options_of(verb: &Command) -> impl Iterator<Item = &Arg> {
    verb.get_arguments()
        .filter(|option| option.get_long().is_some() && !ABOUT_THE_FILE.contains(&option.get_id().as_str()))
}

fn is_lent(command: &Command, verb: &str, option: &Arg) -> bool {
    sections_of(verb).filter(|section| *section != verb).any(|lender| {
        let lender = command.find_subcommand(lender);
        lender.is_some_and(|lender| lender.get_arguments().any(|lent| lent.get_id() == option.get_id()))
    })
}
