//! Everything that a worker does with a file before it packs a weight, and what no file may do.

#![no_main]

#[path = "../../tests/hostile/check.rs"]
mod check;
#[path = "../../tests/hostile/counting.rs"]
mod counting;
#[path = "../../tests/hostile/reading.rs"]
mod reading;

libfuzzer_sys::fuzz_target!(|file: &[u8]| check::check(file, "the file"));
