//! From the text of a file to the values in it, or every mistake. Pure: it depends on the text and the declarations only.

use std::{borrow::Cow, collections::BTreeMap, ops::Range};

use clap::{Arg, Command};
use rbee_schema::nearest_name;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    convert::{kind, option_values, setting_value},
    keys::{ENVIRONMENTS, FILE_OPTIONS, Key, SECTIONS, TOP, argument, keys, spelling},
    mistake::{Mistake, Problem, Remedy},
    settings::{SETTINGS, settings_option},
    values::{FileValue, FileValues, overlay, pairs},
};

/// Reads a file against the declarations of `command`.
///
/// # Errors
/// All mistakes, in the order of the file. If the file is no TOML, only that.
pub(crate) fn read(text: &str, command: &Command) -> Result<FileValues, Vec<Mistake>> {
    let mut reader = Reader { text, command, keys: keys(), mistakes: Vec::new() };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let at = error.span().unwrap_or_default();
        reader.mistake(&at, String::new(), Problem::Syntax(error.message().to_owned()));
    }
    let mut values = FileValues::default();
    if reader.mistakes.is_empty() {
        values.common = reader.section(Heading { environment: None, section: TOP }, table.get_ref());
        values.environments = reader.environments(table.get_ref());
        reader.check_conflicts(&values);
    }
    if reader.mistakes.is_empty() {
        return Ok(values);
    }
    reader.mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
    Err(reader.mistakes)
}

struct Reader<'a> {
    text: &'a str,
    command: &'a Command,
    keys: Vec<Key>,
    mistakes: Vec<Mistake>,
}

/// A section of the file, or of an environment in it.
#[derive(Clone, Copy)]
struct Heading<'a> {
    environment: Option<&'a str>,
    section: &'a str,
}

impl Heading<'_> {
    /// The key as people write it: `[hive] ports`.
    fn key(self, key: &str) -> String {
        let environment = self.environment.map(|name| format!("{ENVIRONMENTS}.{name}"));
        let path: Vec<String> =
            environment.into_iter().chain((self.section != TOP).then(|| self.section.to_owned())).collect();
        match (path.is_empty(), key.is_empty()) {
            (true, _) => key.to_owned(),
            (false, true) => format!("[{}]", path.join(".")),
            (false, false) => format!("[{}] {key}", path.join(".")),
        }
    }
}

/// The path of a section within another.
fn join(section: &str, name: &str) -> String {
    if section == TOP { name.to_owned() } else { format!("{section}.{name}") }
}

fn is_section(path: &str) -> bool {
    SECTIONS.iter().any(|(section, _)| *section == path)
}

impl Reader<'_> {
    fn environments(&mut self, table: &DeTable<'_>) -> BTreeMap<String, Vec<FileValue>> {
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
                    let heading = Heading { environment: Some(name.get_ref()), section: TOP };
                    let values = self.section(heading, table);
                    read.insert(name.get_ref().to_string(), values);
                }
                None => {
                    let key = format!("[{ENVIRONMENTS}] {}", name.get_ref());
                    self.mistake(&name.span(), key, Problem::NotASection(kind(environment.get_ref())));
                }
            }
        }
        read
    }

    /// Reads a section and the sections within it.
    fn section(&mut self, heading: Heading<'_>, table: &DeTable<'_>) -> Vec<FileValue> {
        let mut values = Vec::new();
        for (key, value) in table {
            let name: &str = key.get_ref();
            if heading.section == TOP && heading.environment.is_none() && name == ENVIRONMENTS {
                continue;
            }
            let path = join(heading.section, name);
            if let Some(known) = self.key(heading.section, name) {
                values.extend(self.value(heading, &known, key, value));
                continue;
            }
            match value.get_ref() {
                DeValue::Table(keys) if is_section(&path) => {
                    values.extend(self.section(Heading { section: &path, ..heading }, keys));
                }
                other if is_section(&path) => {
                    self.mistake(&key.span(), heading.key(name), Problem::NotASection(kind(other)));
                }
                DeValue::Table(_) if self.elsewhere(name).is_none() => {
                    let problem = self.unknown_section(heading, &path);
                    self.mistake(&key.span(), Heading { section: &path, ..heading }.key(""), problem);
                }
                _ => self.mistake(&key.span(), heading.key(name), self.unknown_key(heading.section, name)),
            }
        }
        values
    }

    fn value(
        &mut self,
        heading: Heading<'_>,
        key: &Key,
        at: &Spanned<Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<FileValue> {
        let holder = settings_option(key.option);
        let read = match (&key.setting, holder) {
            (Some(setting), Some(holder)) => setting_value(holder, setting, value.get_ref()).map(|text| vec![text]),
            _ => option_values(argument(self.command, key.option)?, value.get_ref()),
        };
        match read {
            Ok(values) => {
                let (line, column) = self.position(at.span().start);
                Some(FileValue { key: key.clone(), values, line, column })
            }
            Err(problem) => {
                self.mistake(&value.span(), heading.key(&key.name), problem);
                None
            }
        }
    }

    fn key(&self, section: &str, name: &str) -> Option<Key> {
        self.keys.iter().find(|key| key.section == section && key.name == name).cloned()
    }

    /// Checks settings that depend on each other: those of the file, and those of each environment over them.
    fn check_conflicts(&mut self, values: &FileValues) {
        for holder in &SETTINGS {
            let of_option = |values: &[FileValue]| -> Vec<FileValue> {
                values.iter().filter(|value| value.key.option == holder.option).cloned().collect()
            };
            let common = of_option(&values.common);
            if let Err(why) = (holder.check_all)(&pairs(&common)) {
                self.conflict(None, &common, why);
                continue;
            }
            for (name, environment) in &values.environments {
                let special = of_option(environment);
                if let Err(why) = (holder.check_all)(&pairs(&overlay(&common, &special))) {
                    self.conflict(Some(name), &special, why);
                }
            }
        }
    }

    /// Reports a conflict at the first of the values.
    fn conflict(&mut self, environment: Option<&str>, values: &[FileValue], why: String) {
        if let Some(FileValue { key, line, column, .. }) = values.first() {
            let key = Heading { environment, section: key.section }.key("");
            self.mistakes.push(Mistake { line: *line, column: *column, key, problem: Problem::Conflict(why) });
        }
    }

    fn unknown_section(&self, heading: Heading<'_>, path: &str) -> Problem {
        if self.command.find_subcommand(path).is_some() {
            return Problem::Verb(path.to_owned());
        }
        let sections = SECTIONS.iter().map(|(section, _)| *section).filter(|section| *section != TOP);
        let known = || sections.clone().chain(heading.environment.is_none().then_some(ENVIRONMENTS));
        Problem::UnknownSection(match nearest_name(path, known().map(|name| (name, name))) {
            Some(nearest) => Remedy::Nearest(format!("[{nearest}]")),
            None => Remedy::Known(known().map(|name| format!("[{name}]")).collect()),
        })
    }

    /// The mistake about a key that the section does not have. A key or flag of that very name is looked for in other
    /// sections first, then a similar name in this section, then a similar name anywhere.
    fn unknown_key(&self, section: &str, name: &str) -> Problem {
        if FILE_OPTIONS.contains(&name) {
            return Problem::ChoosesFile;
        }
        let own = || self.keys.iter().filter(move |key| key.section == section).map(|key| key.name.as_str());
        let remedy = if let Some(place) = self.elsewhere(name) {
            Remedy::Elsewhere(place)
        } else if let Some(nearest) = nearest_name(name, own().map(|name| (name, name.to_owned()))) {
            Remedy::Nearest(nearest)
        } else if let Some(nearest) = nearest_name(name, self.keys.iter().map(|key| (key.name.as_str(), place(key)))) {
            Remedy::Nearest(nearest)
        } else {
            Remedy::Known(own().map(str::to_owned).collect())
        };
        Problem::UnknownKey(remedy)
    }

    /// The place of the key with this name, or of the option with this flag.
    fn elsewhere(&self, name: &str) -> Option<String> {
        let has_flag = |option: &Arg| {
            spelling(option) == name || option.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
        };
        let by_flag = self.keys.iter().find(|key| argument(self.command, key.option).is_some_and(has_flag));
        match by_flag {
            Some(key) if key.setting.is_some() => Some(format!("the section [{}]", key.section)),
            Some(key) => Some(place(key)),
            None => self.keys.iter().find(|key| key.name == name).map(place),
        }
    }

    fn mistake(&mut self, at: &Range<usize>, key: String, problem: Problem) {
        let (line, column) = self.position(at.start);
        self.mistakes.push(Mistake { line, column, key, problem });
    }

    /// Line and column of a byte, both from 1.
    fn position(&self, byte: usize) -> (usize, usize) {
        let before = self.text.get(..byte).unwrap_or(self.text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        (before.matches('\n').count() + 1, line.chars().count() + 1)
    }
}

fn place(key: &Key) -> String {
    match key.section {
        TOP => format!("{} before the first section", key.name),
        section => format!("[{section}] {}", key.name),
    }
}
