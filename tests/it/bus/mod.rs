//! The bus against a real nats-server. Each file tests one file of `nats/src`.

mod batches;
mod cluster;
mod commands;
mod configuration;
mod connect;
mod events;
mod jobs;
mod leader;
mod outbox;
mod output;
mod output_limits;
mod ports;
mod registry;
mod server_errors;
mod settings;
mod topology;
mod waiting;
