//! Fuzz target: reads a GGUF file as a worker does before it packs the weights, and checks time, memory and failures.

#![no_main]

#[path = "../../tests/hostile/check.rs"]
mod check;
#[path = "../../tests/hostile/counting.rs"]
mod counting;
#[path = "../../tests/hostile/reading.rs"]
mod reading;

libfuzzer_sys::fuzz_target!(|file: &[u8]| check::check(file, "the file"));
