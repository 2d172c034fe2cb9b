//! Everything that a worker does with a file before it packs a weight.

#![no_main]

#[path = "../../worker/tests/hostile/reading.rs"]
mod reading;

libfuzzer_sys::fuzz_target!(|file: &[u8]| {
    let _ = reading::read(file);
});
