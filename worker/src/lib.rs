//! The worker: one process that runs one model and answers its jobs.
//!
//! Two halves meet at [`contract`]. The bus half (`run`, `serve`, `job`, `produce`, `report`) pulls jobs and appends their
//! answers, and knows no tensor. The inference half (`engine`, `architecture`, `model_file`, `text`, `grammar`, `sample`) makes
//! tokens, and knows no message. [`load`] is the one place that knows every engine. Steps 4 to 6 of a job's path.

pub mod architecture;
pub mod contract;
pub mod decide;
pub mod draw;
pub mod engine;
pub mod grammar;
pub mod load;
pub mod model_file;
pub mod sample;
pub mod text;

mod blocked;
mod device;
mod engine_thread;
mod fatal;
mod http;
mod huge_pages;
mod job;
mod loading;
mod metrics;
mod options;
mod produce;
mod report;
mod run;
mod serve;

pub use self::{fatal::FatalError, options::Options, run::run};
