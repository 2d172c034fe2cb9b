//! Roles that run in this process (queen, hive, HTTP gateway), and their options. `up`, `queen` and `hive` share them.

mod data;
mod gateway;
mod hive;
mod local_hive;
mod queen;
mod running;
mod store;
mod worker;

pub(crate) use self::{
    data::DataOptions,
    gateway::GatewayOptions,
    hive::{HiveOptions, WorkerConnection, parse_port_range},
    local_hive::LocalHiveSetup,
    queen::QueenOptions,
    worker::device_parser,
};
