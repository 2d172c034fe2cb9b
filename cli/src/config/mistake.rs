//! What is wrong in a file, and where.

use std::{
    fmt::{self, Display, Formatter},
    path::Path,
};

/// A mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// Its line, from 1.
    pub(crate) line: usize,
    /// Its column, from 1.
    pub(crate) column: usize,
    /// The key that it is about, as `[hive] ports`; empty where it is about none.
    pub(crate) key: String,
    /// What it is.
    pub(crate) problem: Problem,
}

/// What is wrong about a key or its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// It is no TOML.
    Syntax(String),
    /// There is no such section.
    NoSection(Remedy),
    /// There is no such option.
    NoOption(Remedy),
    /// It says which file is read.
    AboutTheFile,
    /// It is a section, and something else stands there.
    NotASection(&'static str),
    /// Its value has the wrong type.
    Type {
        /// What was found.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// Its value is not one that the option takes.
    Value {
        /// What was found.
        found: String,
        /// What was expected.
        expected: String,
        /// Why it is not that.
        why: Option<String>,
    },
}

/// What was probably meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// The nearest name that there is.
    Nearest(String),
    /// An option of another section; empty for the one without a name.
    Elsewhere(String),
    /// All names that there are.
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
            Self::Syntax(message) => write!(f, "no valid TOML: {message}"),
            Self::NoSection(remedy) => write!(f, "no such section; {remedy}"),
            Self::NoOption(remedy) => write!(f, "no such option; {remedy}"),
            Self::AboutTheFile => {
                write!(f, "it says which configuration is read: give it as a flag or a variable, not here")
            }
            Self::NotASection(found) => write!(f, "found {found}, expected a section with options"),
            Self::Type { found, expected } | Self::Value { found, expected, why: None } => {
                write!(f, "found {found}, expected {expected}")
            }
            Self::Value { found, expected, why: Some(why) } => {
                write!(f, "found {found}, expected {expected}: {why}")
            }
        }
    }
}

impl Display for Remedy {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nearest(name) => write!(f, "did you mean {name}?"),
            Self::Elsewhere(section) if section.is_empty() => write!(f, "it stands before the first section"),
            Self::Elsewhere(section) => write!(f, "it is one of [{section}]"),
            Self::Known(names) => write!(f, "there are {}", names.join(", ")),
        }
    }
}

/// Every mistake of a file, a line for each.
pub(crate) fn report(file: &Path, mistakes: &[Mistake]) -> String {
    let lines = mistakes.iter().map(|mistake| format!("\n  {}:{mistake}", file.display()));
    format!("the configuration is wrong:{}", lines.collect::<String>())
}
