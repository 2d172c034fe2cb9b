//! The whole as real processes: queen, hive and workers, told what to do only over the bus.

mod adoption;
mod answers;
mod audit;
mod bad_input;
mod cache;
mod cancel;
mod capacity;
mod command_line;
mod configuration;
mod drain;
mod embeddings;
mod flood;
mod form;
mod gateway;
mod install;
mod local_hive;
mod memory;
mod ports;
mod queens;
mod sampling;
mod settings;
mod story;
mod tools;
mod trace;
