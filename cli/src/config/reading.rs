//! From the text of a file to the settings in it, or everything that is wrong with it. Pure: it knows the text and the
//! declarations.

use std::{borrow::Cow, collections::BTreeMap, error::Error as _, ops::Range};

use clap::{
    Arg, ArgAction, Command,
    error::{ContextKind, ContextValue},
};
use rbee_schema::nearest_name;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    declared::{ENVIRONMENTS, Section, TOP, is_flag, is_list, pair, sections, sections_of, spelling, value_name},
    mistake::{Mistake, Problem, Remedy},
    secret,
    settings::{Given, Settings},
};

/// Reads a file against what `command` declares.
///
/// # Errors
/// All mistakes, in the order of the file. Where it is no TOML nothing else is looked for.
pub(crate) fn read(text: &str, command: &Command) -> Result<Settings, Vec<Mistake>> {
    let mut reader = Reader { text, command, sections: sections(command), mistakes: Vec::new() };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let at = error.span().unwrap_or_default();
        reader.mistake(&at, String::new(), Problem::Syntax(error.message().to_owned()));
    }
    let mut settings = Settings::default();
    if reader.mistakes.is_empty() {
        settings.everywhere = reader.settings(None, table.get_ref());
        settings.environments = reader.environments(table.get_ref());
    }
    if reader.mistakes.is_empty() {
        return Ok(settings);
    }
    reader.mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
    Err(reader.mistakes)
}

struct Reader<'a> {
    text: &'a str,
    command: &'a Command,
    sections: Vec<Section<'a>>,
    mistakes: Vec<Mistake>,
}

/// A section of the file as a whole, or of an environment in it.
#[derive(Clone, Copy)]
struct Heading<'a> {
    environment: Option<&'a str>,
    section: &'a str,
}

impl Heading<'_> {
    fn key(self, key: &str) -> String {
        match (self.environment, self.section) {
            (None, TOP) => key.to_owned(),
            (None, section) => format!("[{section}] {key}"),
            (Some(environment), TOP) => format!("[{ENVIRONMENTS}.{environment}] {key}"),
            (Some(environment), section) => format!("[{ENVIRONMENTS}.{environment}.{section}] {key}"),
        }
    }
}

impl<'a> Reader<'a> {
    fn environments(&mut self, table: &DeTable<'_>) -> BTreeMap<String, Vec<Given>> {
        let Some((key, environments)) = table.get_key_value(ENVIRONMENTS) else { return BTreeMap::new() };
        let Some(environments) = environments.get_ref().as_table() else {
            let found = kind(environments.get_ref());
            self.mistake(&key.span(), key.get_ref().to_string(), Problem::NotASection(found));
            return BTreeMap::new();
        };
        let mut read = BTreeMap::new();
        for (name, environment) in environments {
            match environment.get_ref().as_table() {
                Some(table) => {
                    let given = self.settings(Some(name.get_ref()), table);
                    read.insert(name.get_ref().to_string(), given);
                }
                None => {
                    let key = format!("[{ENVIRONMENTS}] {}", name.get_ref());
                    self.mistake(&name.span(), key, Problem::NotASection(kind(environment.get_ref())));
                }
            }
        }
        read
    }

    fn settings(&mut self, environment: Option<&str>, table: &DeTable<'_>) -> Vec<Given> {
        let mut given = Vec::new();
        let top = Heading { environment, section: TOP };
        for (key, value) in table {
            let name: &str = key.get_ref();
            if name == ENVIRONMENTS && environment.is_none() {
                continue;
            }
            let is_section = self.sections.iter().any(|section| section.name == name);
            let is_option = self.option(TOP, name).is_some();
            match value.get_ref() {
                DeValue::Table(options) if is_section => {
                    let heading = Heading { environment, section: name };
                    given.extend(options.iter().filter_map(|(key, value)| self.given(heading, key, value)));
                }
                DeValue::Table(_) if !is_option => {
                    let heading = Heading { environment, section: name }.key("");
                    let problem = self.no_section(environment, name);
                    self.mistake(&key.span(), heading.trim_end().to_owned(), problem);
                }
                other if is_section => {
                    self.mistake(&key.span(), top.key(name), Problem::NotASection(kind(other)));
                }
                _ => given.extend(self.given(top, key, value)),
            }
        }
        given
    }

    fn given(
        &mut self,
        heading: Heading<'_>,
        key: &Spanned<Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<Given> {
        let name: &str = key.get_ref();
        let Some(option) = self.option(heading.section, name) else {
            self.mistake(&key.span(), heading.key(name), self.no_option(heading.section, name));
            return None;
        };
        let read = values(option, value.get_ref()).and_then(|values| checked(option, values));
        match read {
            Ok(values) => {
                let (line, _) = self.position(key.span().start);
                Some(Given { section: heading.section.to_owned(), option: option.get_id().to_string(), values, line })
            }
            Err(problem) => {
                self.mistake(&value.span(), heading.key(name), problem);
                None
            }
        }
    }

    fn option(&self, section: &str, name: &str) -> Option<&'a Arg> {
        let section = self.sections.iter().find(|known| known.name == section)?;
        section.options.iter().find(|option| spelling(option) == name).copied()
    }

    fn no_section(&self, environment: Option<&str>, name: &str) -> Problem {
        let verbs = self.sections.iter().map(|section| section.name).filter(|name| *name != TOP);
        let known = || verbs.clone().chain(environment.is_none().then_some(ENVIRONMENTS));
        Problem::NoSection(match nearest_name(name, known().map(|name| (name, name))) {
            Some(nearest) => Remedy::Nearest(format!("[{nearest}]")),
            None => Remedy::Known(known().map(|name| format!("[{name}]")).collect()),
        })
    }

    /// What is wrong about a name that the section does not have. Nobody remembers in which section an option stands: one
    /// of that very name is looked for in the others first, and a similar one last.
    fn no_option(&self, section: &str, name: &str) -> Problem {
        let is_global = self.command.get_arguments().any(|option| option.get_long() == Some(name));
        if is_global && self.option(TOP, name).is_none() {
            return Problem::AboutTheFile;
        }
        let all =
            || self.sections.iter().flat_map(|it| it.options.iter().map(move |option| (it.name, spelling(option))));
        let lenders = sections_of(section).flat_map(|lender| all().filter(move |(name, _)| *name == lender));
        let own = || all().filter(move |(it, _)| *it == section).map(|(_, option)| option);
        let whole = |(section, option)| (option, Heading { environment: None, section }.key(option));
        let remedy = if let Some((elsewhere, _)) = lenders.chain(all()).find(|(_, option)| *option == name) {
            Remedy::Elsewhere(elsewhere.to_owned())
        } else if let Some(nearest) = nearest_name(name, own().map(|option| (option, option.to_owned()))) {
            Remedy::Nearest(nearest)
        } else if let Some(nearest) = nearest_name(name, all().map(whole)) {
            Remedy::Nearest(nearest)
        } else {
            Remedy::Known(own().map(str::to_owned).collect())
        };
        Problem::NoOption(remedy)
    }

    fn mistake(&mut self, at: &Range<usize>, key: String, problem: Problem) {
        let (line, column) = self.position(at.start);
        self.mistakes.push(Mistake { line, column, key, problem });
    }

    /// The line and the column of a byte, both from 1.
    fn position(&self, byte: usize) -> (usize, usize) {
        let before = self.text.get(..byte).unwrap_or(self.text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        (before.matches('\n').count() + 1, line.chars().count() + 1)
    }
}

/// The texts that the command line would have to be given.
fn values(option: &Arg, value: &DeValue<'_>) -> Result<Vec<String>, Problem> {
    let wrong = |found: &DeValue<'_>| Problem::Type { found: kind(found).to_owned(), expected: expected(option) };
    if is_flag(option) {
        return value.as_bool().map(|value| vec![value.to_string()]).ok_or_else(|| wrong(value));
    }
    let text = |value: &DeValue<'_>| scalar(value).ok_or_else(|| wrong(value));
    let values = match value {
        DeValue::Array(values) => values.iter().map(|value| text(value.get_ref())).collect::<Result<Vec<_>, _>>()?,
        DeValue::Table(pairs) if pair(option).is_some() => {
            let text = |(name, value): (&Spanned<Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
                text(value.get_ref()).map(|value| format!("{}={value}", name.get_ref()))
            };
            pairs.iter().map(text).collect::<Result<Vec<_>, _>>()?
        }
        other => vec![text(other)?],
    };
    // An option that takes one text has its own commas in it.
    Ok(if is_list(option) { values } else { vec![values.join(",")] })
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix()).ok().map(|it| it.to_string()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// Asks the option's own parser.
fn checked(option: &Arg, values: Vec<String>) -> Result<Vec<String>, Problem> {
    if is_flag(option) {
        return Ok(values);
    }
    let mut probe = Arg::new("value").long("value").action(ArgAction::Append);
    probe = probe.value_parser(option.get_value_parser().clone());
    if let Some(delimiter) = option.get_value_delimiter() {
        probe = probe.value_delimiter(delimiter);
    }
    let arguments = values.iter().map(|value| format!("--value={value}"));
    let Err(error) = Command::new("probe").no_binary_name(true).arg(probe).try_get_matches_from(arguments) else {
        return Ok(values);
    };
    let found = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(found)) => found.clone(),
        _ => values.join(","),
    };
    let found = format!("\"{}\"", secret::shown(option, &found));
    Err(Problem::Value { found, expected: expected(option), why: error.source().map(ToString::to_string) })
}

fn expected(option: &Arg) -> String {
    if is_flag(option) {
        return "true or false".to_owned();
    }
    let possible: Vec<String> = option.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    match possible.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => format!("{} as for --{}", value_name(option), spelling(option)),
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(true) => "true",
        DeValue::Boolean(false) => "false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
