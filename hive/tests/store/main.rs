//! The store against a small hub that speaks the protocol of the real one over HTTP.

mod access;
mod fetch;
mod hub;
mod interruption;
mod room;
mod several;
mod shelf;
