//! A database directory, mutated. See `bodies::directory`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::directory(data));
