//! The integration tests, as one binary: the bus against a real nats-server, fleets of real processes, and third-party clients.
//!
//! Every test starts its own servers and processes (see `rbee_tests`), so that tests run concurrently and in any order.

mod bus;
mod chaos;
mod fleet;
mod harness;
mod model;
mod plain_clients;
mod sample;
mod sim;
mod tidy;
