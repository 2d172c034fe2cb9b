//! The integration tests, as one binary: the bus against a real nats-server, and clients that nobody here wrote.
//!
//! Every test starts what it needs for itself (see `rbee_tests::nats`), so that tests run side by side and in any order.

mod bus;
mod chaos;
mod fleet;
mod harness;
mod plain_clients;
mod sample;
mod tidy;
