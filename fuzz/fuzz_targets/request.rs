//! Requests to join. See `bodies::request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::request(data));
