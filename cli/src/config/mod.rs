//! The configuration file: other defaults for the options of the command line.
//!
//! Every option is declared once, as an option of a verb, and the file is read against these declarations (`declared`,
//! `reading`): what it says becomes their defaults (`settings`) before the command line is parsed. So a flag has precedence
//! over a variable, a variable over the file, and the file over the built-in default, by the rules of the parser itself.
//!
//! `source` finds the file, `start` puts all of that together for a process, `effective` says what holds and where it comes
//! from, and `example` writes the file that names every option.

mod declared;
mod effective;
mod example;
mod mistake;
mod reading;
mod secret;
mod settings;
mod source;
mod start;

#[cfg(test)]
mod tests;

pub use self::example::example;
pub(crate) use self::{
    effective::{Effective, Origin, effective},
    mistake::{Mistake, report},
    reading::read,
    source::ConfigSource,
    start::{ConfigRequest, Configuration, command_line},
};
