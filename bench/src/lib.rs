//! What the programs of this folder share: samples, the tables that they are printed in, and where they were taken.

pub mod machine;
pub mod table;
