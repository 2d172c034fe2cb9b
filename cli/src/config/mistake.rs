//! Mistakes in a configuration file, with their places.

use std::{
    fmt::{self, Display, Formatter},
    path::Path,
};

/// A mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// Line, from 1.
    pub(crate) line: usize,
    /// Column, from 1.
    pub(crate) column: usize,
    /// The key, such as `[hive] ports`; empty if the file is no TOML.
    pub(crate) key: String,
    /// The mistake.
    pub(crate) problem: Problem,
}

/// Kinds of mistakes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// The file is no TOML.
    Syntax(String),
    /// There is no such section.
    UnknownSection(Remedy),
    /// The section is a verb, and verbs take flags.
    Verb(String),
    /// The section has no such key.
    UnknownKey(Remedy),
    /// The key would choose the file that is being read.
    ChoosesFile,
    /// The key is a section, and holds another type.
    NotASection(&'static str),
    /// The value has the wrong type.
    Type {
        /// The value or its type.
        found: String,
        /// The possible values.
        expected: String,
    },
    /// The option does not accept the value.
    Value {
        /// The value.
        found: String,
        /// The possible values.
        expected: String,
        /// The reason, if the parser gives one.
        why: Option<String>,
    },
    /// Values that are fine by themselves contradict each other.
    Conflict(String),
}

/// Probable intention of the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// The nearest name.
    Nearest(String),
    /// The place of a key of that name, such as `[gateway] listen`.
    Elsewhere(String),
    /// All names.
    Known(Vec<String>),
}

impl Display for Mistake {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}", self.problem)
    }
}

impl Display for Problem {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(message) => write!(f, "invalid TOML: {message}"),
            Self::UnknownSection(remedy) => write!(f, "unknown section; {remedy}"),
            Self::Verb(verb) => write!(
                f,
                "`rbee {verb}` takes its options as flags; the file configures the roles, in the sections [bus], [queen], \
                 [gateway], [hive] and [worker]"
            ),
            Self::UnknownKey(remedy) => write!(f, "unknown key; {remedy}"),
            Self::ChoosesFile => {
                write!(f, "this option chooses the configuration: use the flag or the variable instead")
            }
            Self::NotASection(found) => write!(f, "found {found}, expected a section with keys of its own"),
            Self::Type { found, expected } | Self::Value { found, expected, why: None } => {
                write!(f, "found {found}, expected {expected}")
            }
            Self::Value { found, expected, why: Some(why) } => {
                write!(f, "found {found}, expected {expected}: {why}")
            }
            Self::Conflict(why) => write!(f, "{why}"),
        }
    }
}

impl Display for Remedy {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nearest(name) => write!(f, "did you mean {name}?"),
            Self::Elsewhere(place) => write!(f, "use {place}"),
            Self::Known(names) => write!(f, "known are {}", names.join(", ")),
        }
    }
}

/// Message with every mistake of a file, a line for each.
pub(crate) fn report(file: &Path, mistakes: &[Mistake]) -> String {
    let lines = mistakes.iter().map(|mistake| format!("\n  {}:{mistake}", file.display()));
    format!("the configuration is invalid:{}", lines.collect::<String>())
}
