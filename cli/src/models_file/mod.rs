//! Declarations of several models in one TOML file, and what they would change in a fleet.
//!
//! ```toml
//! [models.smollm2]
//! reference = "smollm2.gguf"    # beside this file; also file:/absolute/path or hf:owner/repo/file.gguf
//! replicas = { min = 1, max = 2 }
//! slots = 4
//! idle_timeout = "10m"
//! ```
//!
//! The keys are those of a declaration on the bus; `rbee schema model-spec` has all of them.

mod diff;
mod read;

pub(crate) use self::{
    diff::{ModelChange, describe_difference, diff},
    read::{ModelSpecs, read},
};
