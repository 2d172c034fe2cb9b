//! A fleet of real processes for one test: a nats-server, queens, hives, and the workers that the hives start.

mod answers;
mod hive;
mod instance;
mod metrics;
mod models;
mod processes;
mod program;
mod roles;
mod sshd;
mod up;

pub(crate) use self::processes::listener;
pub use self::{
    answers::{chat, text, tokens, whole},
    hive::HiveSetup,
    instance::Fleet,
    metrics::metric_value,
    processes::{Run, RunningProcess, signal},
    program::{program, without_configuration},
    sshd::Sshd,
    up::Up,
};
