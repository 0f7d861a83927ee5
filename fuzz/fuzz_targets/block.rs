//! A block of a table. See `bodies::block`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::block(data));
