//! Models of the fences, explored to the last state: each fence holds in every order of events, and without it the explorer finds
//! the violation that it prevents.
//!
//! The models know nothing of NATS but the rules that matter here, which `tests/it/bus` holds against the real server: stale
//! acknowledgements and naks are honored, a job without a keep-alive is delivered again, and a write may name what it follows.

mod job;
mod lease;
