//! Fleets of real processes: queens, hives and workers, controlled only over the bus and the command line.

mod adoption;
mod answers;
mod audit;
mod bad_input;
mod cancel;
mod capacity;
mod command_line;
mod configuration;
mod drain;
mod embeddings;
mod events;
mod gateway;
mod install;
mod local_hive;
mod malformed_messages;
mod memory;
mod output_format;
mod ports;
mod prompt_cache;
mod queens;
mod refusals;
mod sampling;
mod service;
mod settings;
mod tools;
mod trace;
