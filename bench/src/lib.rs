//! Shared parts of the benchmarks: samples, tables, a description of the machine, and a simulated fleet with the measurements
//! that run on it.

pub mod flood;
pub mod lag;
pub mod machine;
pub mod recovery;
pub mod simulated;
pub mod table;
pub mod usage;
