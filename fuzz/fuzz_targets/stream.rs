//! A stream of a connection, in pieces. See `bodies::stream`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::stream(data));
