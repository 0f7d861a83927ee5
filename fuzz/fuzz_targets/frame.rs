//! A log segment of hostile bytes. See `bodies::frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::frame(data));
