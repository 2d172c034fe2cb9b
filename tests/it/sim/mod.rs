//! One table of scenarios for the model of the server and for a real server: both must show the same.

mod broker;
mod model;
mod real;
mod scenarios;
