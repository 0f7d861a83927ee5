//! Frames of a session. See `bodies::lane`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::lane(data));
