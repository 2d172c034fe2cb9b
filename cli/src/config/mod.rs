//! The configuration file `rbee.toml`. It configures roles, in the sections `[bus]`, `[queen]`, `[gateway]`, `[hive]` and
//! `[worker]`, and the connection of every process. Verbs take flags.
//!
//! `keys` is the table of all keys: which option of the command line each sets, or which of the settings that an option
//! holds. `read` checks the text of a file against it, `values` picks an environment and makes what the file says the
//! defaults of the command line, so that clap itself applies the precedence: flag, variable, file, built-in default.
//!
//! `source` finds the file, `request` reads it for this process, `effective` reports every value with its origin, and
//! `example` writes the documented file.

mod convert;
mod effective;
mod example;
mod keys;
mod mistake;
mod read;
mod request;
mod secret;
mod settings;
mod source;
mod values;

#[cfg(test)]
mod tests;

pub(crate) use self::{
    effective::{EffectiveValue, Origin, effective, origin},
    example::{example, full_example},
    keys::{FILE_VERB, ROLE_VERBS},
    mistake::{Mistake, report},
    read::read,
    request::{ConfigRequest, Configuration},
};
