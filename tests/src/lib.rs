//! The harness of the integration tests: real servers, real processes, and conditions to wait for.
//!
//! The tests themselves are one binary, in `it/`. The harness starts what a test needs and removes it afterwards, also when
//! the test panics. When it cannot start something, it panics and says what to do; no test is skipped silently.

pub mod chaos;
pub mod collector;
pub mod fleet;
pub mod nats;
pub mod network;
pub mod port;
pub mod relay;
pub mod tools;
pub mod wait;
