//! Messages and records of a roster. See `bodies::message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::message(data));
