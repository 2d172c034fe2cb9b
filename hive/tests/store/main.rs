//! Tests of the store against a small hub that speaks the protocol of the real one over HTTP.

mod access;
mod disk;
mod fetch;
mod hub;
mod interruption;
mod several;
mod stored;
