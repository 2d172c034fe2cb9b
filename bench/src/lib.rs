//! What the programs of this folder share: samples, the tables that they are printed in, where they were taken, and a
//! simulated fleet with what is measured on it.

pub mod flood;
pub mod lag;
pub mod machine;
pub mod recovery;
pub mod simulated;
pub mod table;
pub mod usage;
