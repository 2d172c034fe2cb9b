//! The engine that turns texts into vectors on the processor. It runs folders with safetensors of every architecture in
//! [`crate::architecture::ENCODER_TYPES`]. Step 5 of a job's path.

mod engine;
mod load;
mod source;

pub(crate) use load::load;
