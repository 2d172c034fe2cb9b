//! A real nats-server for one test: in a container where a Docker engine can run it, else as a child process.
//!
//! `RBEE_TEST_NATS=container` or `RBEE_TEST_NATS=child` forces one of them. The choice and its reason are printed once.

mod child;
mod cluster;
mod connect;
mod container;
mod kind;
mod server;
mod store;

pub use self::{
    connect::{connect, connect_with},
    server::NatsServer,
};
