//! Files that are generated from the declarations and checked in: schemas, the help of the command line, and the example of
//! the configuration file.

use crate::{command_line::command, config, help, verb::schema::documents_with_help};

/// Files of `schema/schemas`, as name and text.
pub fn generated_schemas() -> Vec<(String, String)> {
    documents_with_help(help::render(command()))
}

/// Text of `docs/rbee.toml`.
pub fn example_config() -> String {
    config::example(&command())
}
